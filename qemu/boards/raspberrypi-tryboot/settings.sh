# A Raspberry Pi by tryboot, as near as QEMU comes: its `virt` machine, and a program of the tests in the place of the
# firmware, which QEMU does not have. Sourced by qemu/settings.sh.
ARCH=aarch64
DEBIAN=arm64
CC=aarch64-linux-gnu-gcc
EMULATOR=qemu-aarch64-static
KERNELS=linux-image-arm64
EARLY=""
LATE=virtio_console
CONSOLE=ttyAMA0
LOG_PORT=hvc0
BOOT_MOUNT=/boot/autoboot
# of each slot, where board-support/raspberrypi-tryboot/slot-files looks for them
BOOT_FILES=/usr/lib/ambidex/boot
# the kernel is not compressed here, and it is in the slot and in its boot partition
SLOT_MIB=80
SLOT_BOOT_MIB=48
DATA_PART=7

SUPPORT=$REPO/board-support/raspberrypi-tryboot

layout() {
  printf '%s\n' "1 $BOOT_MIB EF00 autoboot boot" \
    "2 $SLOT_BOOT_MIB 0700 boot-a boot-a" "3 $SLOT_BOOT_MIB 0700 boot-b boot-b" \
    "5 $SLOT_MIB 8300 rootfs-a rootfs" "6 $SLOT_MIB 8300 rootfs-b -" "7 $DATA_MIB 8300 data data"
}
fetch_more() { "$REPO/agent/cross/toolchain" "$ARCH" >/dev/null; }
boot_inputs() { echo "$SUPPORT/autoboot.txt" "$SUPPORT/slot-files" "$BOARD_HERE/settings.sh"; }

# the first partition, and those of the slots: A's from the release, as an update will make it, B's empty
boot_partition() {
  local folder slot
  folder=$(dirname "$1")
  need debugfs e2fsprogs
  mcopy -i "$1" "$SUPPORT/autoboot.txt" ::autoboot.txt
  for slot in a b; do
    truncate -s "${SLOT_BOOT_MIB}M" "$folder/boot-$slot"
    mformat -i "$folder/boot-$slot" -F -N "5b1de7a$slot" -v "BOOT-${slot^^}" ::
  done
  mkdir -p "$folder/slot/$(dirname "$BOOT_FILES")" "$folder/files"
  debugfs -R "rdump $BOOT_FILES $folder/slot/$(dirname "$BOOT_FILES")" "$ROOTFS" 2>/dev/null
  BOOT_DEVICE=$folder/files ROOT=/dev/vda5 "$SUPPORT/slot-files" a "$folder/slot"
  mcopy -s -i "$folder/boot-a" "$folder/files"/* ::
}

rootfs_inputs() { echo "$SUPPORT/slot-files"; }
rootfs_extra() {
  local boot=$1$BOOT_FILES
  install -m 644 "$BOARD_HERE/config.txt" "$BOARD_HERE/cmdline.txt" "$boot/"
  install -m 755 "$SUPPORT/slot-files" "$1/usr/lib/ambidex/slot-files"
  install -m 755 "$BOARD_HERE/prepare-slot" "$1/usr/lib/ambidex/prepare-slot"
  # in place of busybox's, which drops its argument
  rm -f "$1/bin/reboot" "$1/sbin/reboot"
  install -m 755 "$BOARD_HERE/reboot" "$1/sbin/reboot"
}

# The program in the firmware's place starts QEMU anew at every reset. It adds machine, kernel, initramfs, command line
# and device tree. AMBIDEX_BOARD_FIRMWARE_BIN names it; built with cargo when unset.
machine() {
  need qemu-system-aarch64 qemu-system-arm
  need fdtput device-tree-compiler
  local firmware=${AMBIDEX_BOARD_FIRMWARE_BIN:-}
  if [ -z "$firmware" ]; then
    (cd "$REPO" && cargo build --quiet --locked -p ambidex-test-boards --bin ambidex-board-firmware) >&2 ||
      fail "building the program in the firmware's place failed (see above)"
    firmware=${CARGO_TARGET_DIR:-$REPO/target}/debug/ambidex-board-firmware
  fi
  QEMU=("$firmware" "$DISK" "$1")
  MACHINE=(-device virtio-serial-pci)
}
