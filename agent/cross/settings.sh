# Settings of the cross builds; sourced by `toolchain` and `build`.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(dirname "$(dirname "$HERE")")
CROSS=${CARGO_TARGET_DIR:-$REPO/target}/cross
mkdir -p "$CROSS"
CROSS=$(cd "$CROSS" && pwd)

fail() { echo "agent/cross/${0##*/}: $*" >&2; exit 1; }

# need TOOL PACKAGE: stop with the Debian package that brings the tool
need() { command -v "$1" >/dev/null || fail "$1 is missing: install the Debian package $2"; }

# one_at_a_time NAME: holds a lock for the rest of this script, so parallel builds make a thing once
one_at_a_time() { exec 8>"$CROSS/$1.lock"; flock 8; }

# architecture NAME: sets TARGET (Rust's name), DEBIAN (Debian's), GNU (the compiler's), EMULATOR
architecture() {
  case $1 in
    x86_64) TARGET=x86_64-unknown-linux-gnu DEBIAN=amd64 GNU=x86_64-linux-gnu EMULATOR=qemu-x86_64-static ;;
    aarch64) TARGET=aarch64-unknown-linux-gnu DEBIAN=arm64 GNU=aarch64-linux-gnu EMULATOR=qemu-aarch64-static ;;
    # with hardware floating point, as all of Debian's armhf
    armv7) TARGET=armv7-unknown-linux-gnueabihf DEBIAN=armhf GNU=arm-linux-gnueabihf EMULATOR=qemu-arm-static ;;
    *) fail "unknown architecture '$1': known are x86_64, aarch64 and armv7" ;;
  esac
}

# has_target TARGET: whether the compiler that cargo uses has a standard library for it
has_target() { [ -d "$(cd "$REPO" && "${RUSTC:-rustc}" --print sysroot)/lib/rustlib/$1/lib" ]; }
