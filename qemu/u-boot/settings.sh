# The boards with U-Boot, built from Debian's source with a redundant environment and a counter of trial boots; sourced
# by their settings, which set before:
#   GNU           name of the cross compiler
#   DEFCONFIG     what U-Boot's configuration starts from
#   START         its command that starts a kernel of this architecture
#   QEMU_PROGRAM, QEMU_MACHINE
CC=$GNU-gcc
LATE=virtio_console
CONSOLE=ttyAMA0
LOG_PORT=hvc0
BOOT_MOUNT=/boot/uboot

SUPPORT=$REPO/board-support/uboot
UBOOT=$CACHE/u-boot
ENVIRONMENT_BYTES=0x4000

# the whole default environment, a variable a line: U-Boot does not merge what it has stored with its defaults
environment() {
  sed -e '/^#/d' -e '/^$/d' -e "s/@START@/$START/" "$SUPPORT/ambidex.env" "$HERE/u-boot/env" |
    sed -e ':join' -e '/\\$/{N;s/\\\n *//;b join' -e '}'
}

fetch_more() {
  "$REPO/agent/cross/toolchain" "$ARCH" >/dev/null
  "$HERE/u-boot/source" >/dev/null
}
boot_loader() { "$HERE/u-boot/build"; }
boot_inputs() { echo "$UBOOT/key" "$HERE/u-boot/settings.sh" "$BOARD_HERE/settings.sh"; }

boot_partition() {
  local folder copy
  folder=$(dirname "$1")
  need mkenvimage u-boot-tools
  environment >"$folder/environment"
  mkenvimage -r -s "$ENVIRONMENT_BYTES" -o "$folder/environment.bin" "$folder/environment"
  for copy in uboot.env uboot-redund.env; do mcopy -i "$1" "$folder/environment.bin" "::$copy"; done
}

rootfs_inputs() { echo "$HERE/u-boot/settings.sh" "$HERE/u-boot/env" "$SUPPORT/ambidex.env"; }
rootfs_extra() {
  printf '# file, offset, size: both copies of the environment\n%s 0x0 %s\n%s 0x0 %s\n' \
    "$BOOT_MOUNT/uboot.env" "$ENVIRONMENT_BYTES" "$BOOT_MOUNT/uboot-redund.env" "$ENVIRONMENT_BYTES" >"$1/etc/fw_env.config"
  # what holds when both are damaged
  environment >"$1/etc/u-boot-initial-env"
}

machine() {
  need "$QEMU_PROGRAM" qemu-system-arm
  QEMU=("$QEMU_PROGRAM")
  MACHINE=("${QEMU_MACHINE[@]}" -bios "$UBOOT/u-boot.bin")
}
