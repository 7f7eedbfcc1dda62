SUMMARY = "Where U-Boot's environment lies, for its tools and the agent"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"
PV = "0.1"

inherit ambidex-board

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${sysconfdir}
    # the same places as in the fragment for U-Boot: two copies
    cat > ${D}${sysconfdir}/fw_env.config <<END
${AMBIDEX_STORAGE_DEVICE} ${AMBIDEX_UBOOT_ENV_OFFSET} ${AMBIDEX_UBOOT_ENV_SIZE}
${AMBIDEX_STORAGE_DEVICE} ${AMBIDEX_UBOOT_ENV_OFFSET_REDUNDANT} ${AMBIDEX_UBOOT_ENV_SIZE}
END
}

PACKAGE_ARCH = "${MACHINE_ARCH}"
