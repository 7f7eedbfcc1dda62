# A/B images: IMAGE_CLASSES += "ambidex-image", and IMAGE_FSTYPES with "mender" (the artifact) and "wic" (the disk).
#
# The root file system is written once as ext4; the same file becomes slot A of the disk and the payload of the
# artifact, so their checksums agree. The data partition holds what survives updates: device type, bootstrap
# artifact, the board's part of the configuration.

inherit ambidex-board
# EFI_BOOT_IMAGE
require conf/image-uefi.conf

# ---- set these
# The server; empty: /etc/ambidex/agent.toml comes from elsewhere.
AMBIDEX_SERVER_URL ??= ""
AMBIDEX_DEVICE_TYPE ??= "${MACHINE}"
AMBIDEX_ARTIFACT_NAME ??= "${IMAGE_BASENAME}${IMAGE_VERSION_SUFFIX}"
# A private key to sign artifacts with; put its public half into the images (AMBIDEX_VERIFY_KEY).
AMBIDEX_SIGNING_KEY ??= ""
AMBIDEX_VERIFY_KEY ??= ""

# ---- the disk's parts
AMBIDEX_BOOT_SIZE_MB ??= "64"
AMBIDEX_SLOT_SIZE_MB ??= "512"
AMBIDEX_DATA_SIZE_MB ??= "128"
AMBIDEX_ALIGN_KB ??= "8192"
AMBIDEX_BOOT_MOUNT ??= "${@'/boot/efi' if d.getVar('AMBIDEX_BOOTLOADER') == 'grub' else '/uboot'}"
# An image recipe whose initramfs (cpio.gz) mounts the slot, best after it has armed the watchdog. Empty: the kernel
# mounts the slot by itself, and a hang is not recovered before systemd arms the watchdog.
AMBIDEX_INITRAMFS ??= ""
AMBIDEX_KERNEL_NAME ??= "vmlinuz"

WKS_FILE ?= "ambidex-${AMBIDEX_BOOTLOADER}.wks.in"

# ---- the root file system: as large as its slot, without a journal (even a read-only mount would write to it)
IMAGE_ROOTFS_SIZE = "${@int(d.getVar('AMBIDEX_SLOT_SIZE_MB')) * 1024}"
IMAGE_ROOTFS_MAXSIZE = "${IMAGE_ROOTFS_SIZE}"
IMAGE_OVERHEAD_FACTOR = "1.0"
IMAGE_ROOTFS_EXTRA_SPACE = "0"
EXTRA_IMAGECMD:ext4 = "-i 4096 -O ^has_journal"

IMAGE_INSTALL:append = " ambidex-agent"
IMAGE_INSTALL:append = "${@' ambidex-fw-env libubootenv-bin' if d.getVar('AMBIDEX_BOOTLOADER') == 'uboot' else ''}"

# releases up to nanbield have the suffix apart from the name
AMBIDEX_IMAGE ?= "${IMGDEPLOYDIR}/${@d.getVar('IMAGE_NAME') + ('' if d.getVar('IMAGE_NAME_SUFFIX') in d.getVar('IMAGE_NAME') else d.getVar('IMAGE_NAME_SUFFIX'))}"

ROOTFS_POSTPROCESS_COMMAND:append = " ambidex_root; "

ambidex_root() {
    install -d ${IMAGE_ROOTFS}/data ${IMAGE_ROOTFS}${AMBIDEX_BOOT_MOUNT} ${IMAGE_ROOTFS}${sysconfdir}/ambidex
    {
        echo "${AMBIDEX_PART_PREFIX}${AMBIDEX_DATA_PART} /data ext4 defaults,noatime 0 2"
        # sync: the boot environment is in there
        echo "${AMBIDEX_PART_PREFIX}${AMBIDEX_BOOT_PART} ${AMBIDEX_BOOT_MOUNT} vfat sync,umask=0077 0 2"
    } >> ${IMAGE_ROOTFS}${sysconfdir}/fstab
    if [ -n "${AMBIDEX_SERVER_URL}" ]; then
        echo 'server_url = "${AMBIDEX_SERVER_URL}"' > ${IMAGE_ROOTFS}${sysconfdir}/ambidex/agent.toml
        if [ -n "${AMBIDEX_VERIFY_KEY}" ]; then
            install -m 0644 "${AMBIDEX_VERIFY_KEY}" ${IMAGE_ROOTFS}${sysconfdir}/ambidex/verify.pem
            echo 'artifact_verify_key = "/etc/ambidex/verify.pem"' >> ${IMAGE_ROOTFS}${sysconfdir}/ambidex/agent.toml
        fi
        chmod 0600 ${IMAGE_ROOTFS}${sysconfdir}/ambidex/agent.toml
    fi
    # kernel and initramfs are part of the slot: an update replaces them, a rollback restores them
    if [ -e "${IMAGE_ROOTFS}/boot/${KERNEL_IMAGETYPE}" ] && [ ! -e "${IMAGE_ROOTFS}/boot/${AMBIDEX_KERNEL_NAME}" ]; then
        ln -s "${KERNEL_IMAGETYPE}" "${IMAGE_ROOTFS}/boot/${AMBIDEX_KERNEL_NAME}"
    fi
    if [ -n "${AMBIDEX_INITRAMFS}" ]; then
        install -m 0644 "${DEPLOY_DIR_IMAGE}/${AMBIDEX_INITRAMFS}-${MACHINE}.cpio.gz" ${IMAGE_ROOTFS}/boot/initrd
    elif [ "${AMBIDEX_BOOTLOADER}" = grub ]; then
        # GRUB's configuration wants one: an archive of nothing
        install -d ${IMAGE_ROOTFS}/boot
        printf '070701%032d%08d%048d%s%08d%s\000\000\000\000' 0 1 0 0000000B 0 'TRAILER!!!' > ${IMAGE_ROOTFS}/boot/initrd
    fi
}

# ---- the artifact
ambidex_write_artifact() {
    set -- --file ${AMBIDEX_IMAGE}.ext4 --artifact-name "${AMBIDEX_ARTIFACT_NAME}" --no-progress
    for type in ${AMBIDEX_DEVICE_TYPE}; do
        set -- "$@" --compatible-types "$type"
    done
    if [ -n "${AMBIDEX_SIGNING_KEY}" ]; then
        set -- "$@" --key "${AMBIDEX_SIGNING_KEY}"
    fi
    ambidex artifact write rootfs-image "$@" ${AMBIDEX_ARTIFACT_ARGS} --output-path ${AMBIDEX_IMAGE}.mender
}
# zstd is small and quick to install, but for devices that still run the reference's client before version 4
AMBIDEX_ARTIFACT_ARGS ??= "--compression zstd"

# ---- the data partition
ambidex_write_data() {
    rm -rf ${WORKDIR}/ambidex-data
    install -d ${WORKDIR}/ambidex-data
    install -d -m 0700 ${WORKDIR}/ambidex-data/ambidex
    set -- ${AMBIDEX_DEVICE_TYPE}
    # the first is what this board is
    echo "device_type=$1" > ${WORKDIR}/ambidex-data/ambidex/device_type
    chmod 0444 ${WORKDIR}/ambidex-data/ambidex/device_type
    {
        echo 'rootfs_part_a = "${AMBIDEX_PART_PREFIX}${AMBIDEX_ROOTFS_PART_A}"'
        echo 'rootfs_part_b = "${AMBIDEX_PART_PREFIX}${AMBIDEX_ROOTFS_PART_B}"'
        case "${AMBIDEX_BOOTLOADER}" in
            grub) printf '\n[boot]\nkind = "grub"\nenv_dir = "%s/grub-ambidex-env"\n' "${AMBIDEX_BOOT_MOUNT}" ;;
            uboot) printf '\n[boot]\nkind = "uboot"\n' ;;
        esac
    } > ${WORKDIR}/ambidex-data/ambidex/agent.toml
    # what the factory has put into slot A
    ambidex artifact write bootstrap-artifact --artifact-name "${AMBIDEX_ARTIFACT_NAME}" --compatible-types "$1" \
        --provides "rootfs-image.version:${AMBIDEX_ARTIFACT_NAME}" \
        --provides "rootfs-image.checksum:$(sha256sum ${AMBIDEX_IMAGE}.ext4 | cut -d' ' -f1)" \
        --no-progress --output-path ${WORKDIR}/ambidex-data/ambidex/bootstrap.mender
    rm -f ${AMBIDEX_IMAGE}.ambidexdata
    truncate -s ${AMBIDEX_DATA_SIZE_MB}M ${AMBIDEX_IMAGE}.ambidexdata
    mkfs.ext4 -q -F -E root_owner=0:0 -L data -d ${WORKDIR}/ambidex-data ${AMBIDEX_IMAGE}.ambidexdata
}

IMAGE_TYPES += "mender ambidexdata"
IMAGE_CMD:mender = "ambidex_write_artifact"
IMAGE_CMD:ambidexdata = "ambidex_write_data"
IMAGE_TYPEDEP:mender = "ext4"
IMAGE_TYPEDEP:ambidexdata = "ext4"
IMAGE_TYPEDEP:wic:append = " ext4 ambidexdata"
do_image_mender[depends] += "ambidex-native:do_populate_sysroot"
do_image_ambidexdata[depends] += "ambidex-native:do_populate_sysroot e2fsprogs-native:do_populate_sysroot"

# ---- the disk
WICVARS:append = " AMBIDEX_IMAGE"
# layouts name files that the types before have made
do_image_wic[depends] += "${@'ambidex-grub-config:do_deploy grub-efi:do_deploy' if d.getVar('AMBIDEX_BOOTLOADER') == 'grub' else ''}"
do_image_wic[depends] += "dosfstools-native:do_populate_sysroot mtools-native:do_populate_sysroot"
do_rootfs[depends] += "${@d.getVar('AMBIDEX_INITRAMFS') + ':do_image_complete' if d.getVar('AMBIDEX_INITRAMFS') else ''}"

python () {
    if d.getVar('AMBIDEX_BOOTLOADER') == 'grub':
        # from the folder of deployed files into the boot partition
        d.setVar('IMAGE_BOOT_FILES', ' '.join((
            'grub-efi-${EFI_BOOT_IMAGE};EFI/BOOT/${EFI_BOOT_IMAGE}',
            'ambidex-grub.cfg;EFI/BOOT/grub.cfg',
            'ambidex-board.cfg;EFI/BOOT/board.cfg',
            'ambidex-grub-env;grub-ambidex-env/env1',
            'ambidex-grub-env;grub-ambidex-env/env2')))
}
