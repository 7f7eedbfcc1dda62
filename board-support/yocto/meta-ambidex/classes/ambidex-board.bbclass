# What images, boot loaders and their tools have to agree on. Set it in the machine's configuration.

# grub, uboot, or none: then the boot partition is the board's own matter
AMBIDEX_BOOTLOADER ??= "none"
AMBIDEX_STORAGE_DEVICE ??= "/dev/mmcblk0"

AMBIDEX_BOOT_PART ??= "1"
AMBIDEX_ROOTFS_PART_A ??= "2"
AMBIDEX_ROOTFS_PART_B ??= "3"
AMBIDEX_DATA_PART ??= "4"
AMBIDEX_UBOOT_ENV_OFFSET ??= "0x400000"
AMBIDEX_UBOOT_ENV_OFFSET_REDUNDANT ??= "0x480000"
AMBIDEX_UBOOT_ENV_SIZE ??= "0x4000"
# /dev/mmcblk0p2, but /dev/sda2
AMBIDEX_PART_PREFIX ??= "${AMBIDEX_STORAGE_DEVICE}${@'p' if d.getVar('AMBIDEX_STORAGE_DEVICE')[-1].isdigit() else ''}"
