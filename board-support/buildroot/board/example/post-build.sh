#!/bin/sh
# Makes the root file system one of two: what has to survive an update is in the data partition.
set -eu
. "$(dirname "$0")/settings.sh"

mkdir -p "$TARGET_DIR/data" "$TARGET_DIR/boot/efi" "$TARGET_DIR/etc/ambidex" "$TARGET_DIR/var/lib"
if [ ! -L "$TARGET_DIR/var/lib/ambidex" ]; then
    # nothing but an empty folder gives way
    if [ -d "$TARGET_DIR/var/lib/ambidex" ]; then rmdir "$TARGET_DIR/var/lib/ambidex"; fi
    ln -s /data/ambidex "$TARGET_DIR/var/lib/ambidex"
fi
# this script may run again over the same tree
sed -i '/ \/data \| \/boot\/efi /d' "$TARGET_DIR/etc/fstab"
{
    echo "${PART}4 /data ext4 defaults,noatime 0 2"
    # sync: the boot environment is in there
    echo "${PART}1 /boot/efi vfat sync,umask=0077 0 2"
} >>"$TARGET_DIR/etc/fstab"

server=$(option BR2_AMBIDEX_SERVER_URL)
if [ -n "$server" ]; then
    echo "server_url = \"$server\"" >"$TARGET_DIR/etc/ambidex/agent.toml"
    chmod 0600 "$TARGET_DIR/etc/ambidex/agent.toml"
fi

# the kernel is part of the slot: an update replaces it, a rollback restores it
if [ -e "$TARGET_DIR/boot/bzImage" ]; then ln -sf bzImage "$TARGET_DIR/boot/vmlinuz"; fi
# GRUB's configuration wants an initrd. An archive of nothing is one: the kernel then mounts the slot itself.
# It arms no watchdog; a board that must come back from a hang puts its own initramfs here.
if [ ! -e "$TARGET_DIR/boot/initrd" ]; then
    printf '070701%032d%08d%048d%s%08d%s\000\000\000\000' 0 1 0 0000000B 0 'TRAILER!!!' >"$TARGET_DIR/boot/initrd"
fi
