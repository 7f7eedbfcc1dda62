SUMMARY = "A/B boot selection with rollback for GRUB"
DESCRIPTION = "The configuration of GRUB and its two copies of the boot environment, for the boot partition."

require recipes-ambidex/ambidex/ambidex-source.inc
inherit ambidex-board deploy nopackages

AMBIDEX_GRUB_KERNEL_ARGS ?= "${APPEND}"

do_configure[noexec] = "1"
do_install[noexec] = "1"

do_compile() {
    cat > ${B}/board.cfg <<END
set slot_a=${AMBIDEX_ROOTFS_PART_A}
set slot_b=${AMBIDEX_ROOTFS_PART_B}
set rootfs_a=${AMBIDEX_PART_PREFIX}${AMBIDEX_ROOTFS_PART_A}
set rootfs_b=${AMBIDEX_PART_PREFIX}${AMBIDEX_ROOTFS_PART_B}
set kernel_args="${AMBIDEX_GRUB_KERNEL_ARGS}"
END
    # GRUB can neither create nor grow it: 1024 bytes
    {
        printf '# GRUB Environment Block\n'
        printf 'editing=0\nmender_boot_part=%s\nmender_boot_part_hex=%x\nupgrade_available=0\nbootcount=0\n' \
            ${AMBIDEX_ROOTFS_PART_A} ${AMBIDEX_ROOTFS_PART_A}
        head -c 1024 /dev/zero | tr '\0' '#'
    } | head -c 1024 > ${B}/env
}

do_deploy() {
    install -d ${DEPLOYDIR}
    install -m 0644 ${S}/board-support/grub-x86_64/grub.cfg ${DEPLOYDIR}/ambidex-grub.cfg
    install -m 0644 ${B}/board.cfg ${DEPLOYDIR}/ambidex-board.cfg
    install -m 0644 ${B}/env ${DEPLOYDIR}/ambidex-grub-env
}
addtask deploy after do_compile before do_build

PACKAGE_ARCH = "${MACHINE_ARCH}"
