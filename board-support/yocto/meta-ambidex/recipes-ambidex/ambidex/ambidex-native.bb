SUMMARY = "Over-the-air updates: writes artifacts"
DESCRIPTION = "The operator's command line, as a tool of the build: it makes the artifact of an image."

AMBIDEX_PROGRAM = "ambidex"
AMBIDEX_PROFILE = "release"
AMBIDEX_PREBUILT_ARCH = "${BUILD_ARCH}"
require ambidex-program.inc
inherit native

do_install() {
    ambidex_install_program
}
