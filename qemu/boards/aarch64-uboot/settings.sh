# aarch64 with U-Boot: QEMU's `virt`; sourced by qemu/settings.sh.
ARCH=aarch64
DEBIAN=arm64
EMULATOR=qemu-aarch64-static
KERNELS=linux-image-arm64
EARLY=""
# the kernel is not compressed here
SLOT_MIB=80

GNU=aarch64-linux-gnu
DEFCONFIG=qemu_arm64_defconfig
START=booti
QEMU_PROGRAM=qemu-system-aarch64
QEMU_MACHINE=(-machine virt,gic-version=2 -accel tcg -cpu cortex-a57)
. "$HERE/u-boot/settings.sh"
