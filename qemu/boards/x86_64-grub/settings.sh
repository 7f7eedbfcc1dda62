# x86-64 with UEFI firmware and GRUB; sourced by qemu/settings.sh.
ARCH=x86_64
DEBIAN=amd64
CC=cc
EMULATOR=""
# the one for clouds unpacks in a fraction of the time
KERNELS="linux-image-cloud-amd64 linux-image-amd64 linux-image-virtual linux-image-generic"
# it has no driver for the PCI card; this one is for the chipset's watchdog
EARLY=wdat_wdt
LATE=""
CONSOLE=ttyS0
LOG_PORT=ttyS1
BOOT_MOUNT=/boot/efi

GRUB_CFG=$REPO/board-support/grub-x86_64/grub.cfg
GRUB_MODULES=/usr/lib/grub/x86_64-efi

boot_inputs() { echo "$GRUB_CFG" "$BOARD_HERE/board.cfg" "$BOARD_HERE/settings.sh"; }

# ESP: GRUB as one program at the path firmware starts without being told
boot_partition() {
  local folder
  folder=$(dirname "$1")
  need grub-mkimage grub-common
  need_file "$GRUB_MODULES" grub-efi-amd64-bin
  grub-mkimage -d "$GRUB_MODULES" -O x86_64-efi -p /EFI/BOOT -o "$folder/BOOTX64.EFI" \
    part_gpt fat ext2 normal configfile loadenv linux test regexp echo serial terminal sleep reboot halt boot true
  mmd -i "$1" ::EFI ::EFI/BOOT ::grub-ambidex-env
  mcopy -i "$1" "$folder/BOOTX64.EFI" ::EFI/BOOT/BOOTX64.EFI
  mcopy -i "$1" "$GRUB_CFG" ::EFI/BOOT/grub.cfg
  mcopy -i "$1" "$BOARD_HERE/board.cfg" ::EFI/BOOT/board.cfg
  # GRUB cannot create the environment, it must be there at its full size
  {
    printf '# GRUB Environment Block\nediting=0\nmender_boot_part=2\nmender_boot_part_hex=2\nupgrade_available=0\nbootcount=0\n'
    head -c 1024 /dev/zero | tr '\0' '#'
  } | dd bs=1 count=1024 of="$folder/env" status=none iflag=fullblock
  local copy
  for copy in env1 env2; do mcopy -i "$1" "$folder/env" "::grub-ambidex-env/$copy"; done
}

machine() {
  need qemu-system-x86_64 qemu-system-x86
  need_file /usr/share/OVMF/OVMF_CODE_4M.fd ovmf
  cp /usr/share/OVMF/OVMF_VARS_4M.fd "$1/variables.fd"
  "$BOARD_HERE/watchdog-table" "$1/watchdog-table"
  QEMU=qemu-system-x86_64
  # KVM only on request: a /dev/kvm that opens may still be unable to run a guest
  MACHINE=(-machine q35,accel=tcg -cpu max)
  [ "${AMBIDEX_BOARD_KVM:-}" != 1 ] || MACHINE=(-machine q35,accel=kvm -cpu host)
  MACHINE+=(-drive if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
    -drive "if=pflash,unit=1,format=raw,file=$1/variables.fd" -serial null
    -global ICH9-LPC.noreboot=false -acpitable "sig=WDAT,rev=1,data=$1/watchdog-table")
}
