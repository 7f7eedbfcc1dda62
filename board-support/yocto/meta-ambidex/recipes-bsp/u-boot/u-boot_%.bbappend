# Trial boots are counted in an environment that exists twice. What selects the slot is ambidex.env of
# board-support/uboot; the board's own part (disk, addresses, how a kernel is started) is AMBIDEX_UBOOT_BOARD_ENV.
FILESEXTRAPATHS:prepend := "${THISDIR}/u-boot:"

SRC_URI:append = "${@' file://ambidex.cfg' if d.getVar('AMBIDEX_BOOTLOADER') == 'uboot' else ''}"

AMBIDEX_UBOOT_BOARD_ENV ??= ""

do_configure:prepend() {
    if [ "${AMBIDEX_BOOTLOADER}" = uboot ]; then
        if [ ! -f "${AMBIDEX_BOARD_SUPPORT}/uboot/ambidex.env" ]; then
            bbfatal "no boot selection in ${AMBIDEX_BOARD_SUPPORT}/uboot: set AMBIDEX_BOARD_SUPPORT to the folder board-support of the sources"
        fi
        if [ -z "${AMBIDEX_UBOOT_BOARD_ENV}" ]; then
            bbfatal "AMBIDEX_UBOOT_BOARD_ENV is not set: name the file with this board's part of the environment"
        fi
        cat "${AMBIDEX_BOARD_SUPPORT}/uboot/ambidex.env" "${AMBIDEX_UBOOT_BOARD_ENV}" > ${S}/ambidex-default.env
    fi
}
