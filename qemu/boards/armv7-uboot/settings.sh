# 32-bit ARM with hardware floating point and U-Boot: QEMU's `virt`; sourced by qemu/settings.sh.
ARCH=armv7
DEBIAN=armhf
EMULATOR=qemu-arm-static
KERNELS=linux-image-armmp
# this kernel has no driver for the machine's watchdog; the one in software ends a user space that hangs, not a kernel
EARLY=softdog

GNU=arm-linux-gnueabihf
DEFCONFIG=qemu_arm_defconfig
START=bootz
QEMU_PROGRAM=qemu-system-arm
# what lies above 4 GiB, PCI among it, is out of U-Boot's reach
QEMU_MACHINE=(-machine virt,gic-version=2,highmem=off -accel tcg -cpu cortex-a15)
. "$HERE/u-boot/settings.sh"

# this kernel cannot read QEMU's fw_cfg: each is a disk, named by its serial number
hand_in() {
  HANDED+=(-drive "if=none,id=$1,format=raw,readonly=on,file=$2" -device "virtio-blk-pci,drive=$1,serial=$1")
}
