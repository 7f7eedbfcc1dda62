# aarch64 with U-Boot: QEMU's `virt`, U-Boot from Debian's source with a redundant environment and a counter of trial
# boots; sourced by qemu/settings.sh.
ARCH=aarch64
DEBIAN=arm64
CC=aarch64-linux-gnu-gcc
EMULATOR=qemu-aarch64-static
KERNELS=linux-image-arm64
EARLY=""
LATE=virtio_console
CONSOLE=ttyAMA0
LOG_PORT=hvc0
BOOT_MOUNT=/boot/uboot
# the kernel is not compressed here
SLOT_MIB=80

SUPPORT=$REPO/board-support/uboot
UBOOT=$CACHE/u-boot
ENVIRONMENT_BYTES=0x4000

# the whole default environment, a variable a line: U-Boot does not merge what it has stored with its defaults
environment() {
  sed -e '/^#/d' -e '/^$/d' "$SUPPORT/ambidex.env" "$BOARD_HERE/u-boot.env" |
    sed -e ':join' -e '/\\$/{N;s/\\\n *//;b join' -e '}'
}

fetch_more() {
  "$REPO/agent/cross/toolchain" "$ARCH" >/dev/null
  "$BOARD_HERE/u-boot-source"
}
boot_loader() { "$BOARD_HERE/u-boot"; }
boot_inputs() { echo "$UBOOT/key" "$BOARD_HERE/settings.sh"; }

boot_partition() {
  local folder copy
  folder=$(dirname "$1")
  need mkenvimage u-boot-tools
  environment >"$folder/environment"
  mkenvimage -r -s "$ENVIRONMENT_BYTES" -o "$folder/environment.bin" "$folder/environment"
  for copy in uboot.env uboot-redund.env; do mcopy -i "$1" "$folder/environment.bin" "::$copy"; done
}

rootfs_extra() {
  printf '# file, offset, size: both copies of the environment\n%s 0x0 %s\n%s 0x0 %s\n' \
    "$BOOT_MOUNT/uboot.env" "$ENVIRONMENT_BYTES" "$BOOT_MOUNT/uboot-redund.env" "$ENVIRONMENT_BYTES" >"$1/etc/fw_env.config"
  # what holds when both are damaged
  environment >"$1/etc/u-boot-initial-env"
}

machine() {
  need qemu-system-aarch64 qemu-system-arm
  QEMU=qemu-system-aarch64
  MACHINE=(-machine virt,gic-version=2 -accel tcg -cpu cortex-a57 -bios "$UBOOT/u-boot.bin")
}
