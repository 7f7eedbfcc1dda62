# Settings of the QEMU board x86_64-grub; sourced by every stage.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(dirname "$HERE")
CACHE=${AMBIDEX_BOARD_CACHE:-${CARGO_TARGET_DIR:-$REPO/target}/boards}
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd)

# Partitions in MiB, in the order of their numbers: 1 ESP, 2 rootfs A, 3 rootfs B, 4 data
ESP_MIB=40
SLOT_MIB=64
DATA_MIB=64
# where the first partition starts, and the room the backup GPT needs at the end
FIRST_MIB=1
LAST_MIB=1
DEVICE_TYPE=qemu-x86_64-grub

PATH=$PATH:/usr/sbin:/sbin

fail() { echo "qemu/${0##*/}: $*" >&2; exit 1; }

# need TOOL PACKAGE: stop with the Debian package that brings the tool
need() { command -v "$1" >/dev/null || fail "$1 is missing: install the Debian package $2"; }
need_file() { [ -e "$1" ] || fail "$1 is missing: install the Debian package $2"; }

# one_at_a_time NAME: holds a lock for the rest of this script, so parallel tests build a thing once
one_at_a_time() { exec 9>"$CACHE/$1.lock"; flock 9; }

# fingerprint FILE...: changes when any input of a stage changes
fingerprint() { cat "$@" | sha256sum | cut -d' ' -f1; }
