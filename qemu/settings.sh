# Settings of the QEMU boards; sourced by every stage. AMBIDEX_BOARD says which board, a folder of qemu/boards.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(dirname "$HERE")
BOARD=${AMBIDEX_BOARD:-x86_64-grub}
BOARD_HERE=$HERE/boards/$BOARD

fail() { echo "qemu/${0##*/}: $*" >&2; exit 1; }
[ -f "$BOARD_HERE/settings.sh" ] || fail "unknown board '$BOARD': known are $(ls "$HERE/boards" | tr '\n' ' ')"

CACHE=${AMBIDEX_BOARD_CACHE:-${CARGO_TARGET_DIR:-$REPO/target}/boards}/$BOARD
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd)

# Partitions in MiB
BOOT_MIB=40
SLOT_MIB=64
DATA_MIB=64
# where the first partition starts, and the room the backup GPT needs at the end
FIRST_MIB=1
LAST_MIB=1
DATA_PART=4
# where a slot has kernel and initramfs
BOOT_FILES=/boot
DEVICE_TYPE=qemu-$BOARD

PATH=$PATH:/usr/sbin:/sbin

# need TOOL PACKAGE: stop with the Debian package that brings the tool
need() { command -v "$1" >/dev/null || fail "$1 is missing: install the Debian package $2"; }
need_file() { [ -e "$1" ] || fail "$1 is missing: install the Debian package $2"; }

# one_at_a_time NAME: holds a lock for the rest of this script, so parallel tests build a thing once
one_at_a_time() { exec 9>"$CACHE/$1.lock"; flock 9; }

# fingerprint FILE...: changes when any input of a stage changes
fingerprint() { cat "$@" | sha256sum | cut -d' ' -f1; }

# The same inputs give the same image: everything that bears a date bears this one, and ids are fixed.
IMAGE_TIME=1600000000
ID=5b1de7a2-0000-4000-8000

# make_ext4 FOLDER IMAGE MIB LABEL NUMBER [OPTION...]: a file system with the content of FOLDER; NUMBER (two digits)
# tells its ids from those of the others.
make_ext4() {
  local folder=$1 image=$2 mib=$3 label=$4 number=$5 field
  shift 5
  find "$folder" -exec touch -h -d "@$IMAGE_TIME" {} +
  E2FSPROGS_FAKE_TIME=$IMAGE_TIME mke2fs -q -F -t ext4 "$@" -U "$ID-0000000000${number}" \
    -E "root_owner=0:0,hash_seed=$ID-0000000001${number}" -L "$label" -d "$folder" "$image" "${mib}M" >/dev/null || return
  # mke2fs takes over when a file was last changed and read, which `touch` cannot set or keep
  find "$folder" -printf '/%P\n' | LC_ALL=C sort | while read -r path; do
    for field in ctime atime; do
      printf 'set_inode_field "%s" %s @%s\nset_inode_field "%s" %s_extra 0\n' "$path" "$field" "$IMAGE_TIME" "$path" "$field"
    done
  done | E2FSPROGS_FAKE_TIME=$IMAGE_TIME debugfs -w -f - "$image" >/dev/null 2>&1
}

# What the board adds or changes:
#   ARCH, DEBIAN            architecture for the agent's build, and in Debian's words
#   CC                      C compiler for the board's programs
#   EMULATOR                runs the board's programs on this machine; empty when it can do that itself
#   KERNELS                 metapackages that lead to a kernel, the first one known is taken
#   EARLY, LATE             further drivers for the initramfs and for the rootfs
#   CONSOLE, LOG_PORT       names of the terminals in the guest: root shell, agent log
#   BOOT_MOUNT              where the first partition is mounted
#   layout                  prints a line a partition: number, MiB, type, name, content (a file that `disk` or
#                           boot_partition makes, or - for none), in their order on the disk
#   DATA_PART, BOOT_FILES   number of the data partition; where a slot has kernel and initramfs
#   boot_partition FILE     fills the first partition, an empty FAT image; further ones go beside it
#   boot_inputs             prints the files that boot_partition uses
#   rootfs_extra FOLDER     puts what the board needs into the rootfs
#   rootfs_inputs           prints the files from elsewhere that it uses
#   machine FOLDER          sets QEMU and MACHINE: the program that starts the board's DISK, and arguments for firmware
#                           and machine
#   hand_in NAME FILE       adds to HANDED what makes QEMU hand a file in, for guest/configure
#   fetch_more              downloads further things
#   boot_loader             builds the boot loader, if it has to be built
layout() {
  printf '%s\n' "1 $BOOT_MIB EF00 boot boot" \
    "2 $SLOT_MIB 8300 rootfs-a rootfs" "3 $SLOT_MIB 8300 rootfs-b -" "4 $DATA_MIB 8300 data data"
}
hand_in() { HANDED+=(-fw_cfg "name=opt/ambidex/$1,file=$2"); }
rootfs_inputs() { :; }
rootfs_extra() { :; }
fetch_more() { :; }
boot_loader() { :; }
. "$BOARD_HERE/settings.sh"
