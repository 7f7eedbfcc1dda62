#!/bin/sh
# After the root file system: its artifact, the data partition, the boot environment, the disk.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"
GRUB=$here/../../../grub-x86_64
CLI=${AMBIDEX_CLI:-ambidex}
command -v "$CLI" >/dev/null || fail "no program ambidex: select BR2_PACKAGE_HOST_AMBIDEX, or name one in AMBIDEX_CLI"
IMAGE=$BINARIES_DIR/rootfs.ext4
[ -e "$IMAGE" ] || fail "there is no $IMAGE: select BR2_TARGET_ROOTFS_EXT2_4"
OUT=$BINARIES_DIR/ambidex
rm -rf "$OUT"
mkdir -p "$OUT/data/ambidex"

# ---- the artifact; the same file is slot A of the disk
set -- --file "$IMAGE" --artifact-name "$ARTIFACT_NAME" --compatible-types "$DEVICE_TYPE" --compression zstd --no-progress
key=$(option BR2_AMBIDEX_SIGNING_KEY)
if [ -n "$key" ]; then set -- "$@" --key "$key"; fi
"$CLI" artifact write rootfs-image "$@" --output-path "$BINARIES_DIR/$ARTIFACT_NAME.mender"

# ---- the data partition
chmod 0700 "$OUT/data/ambidex"
echo "device_type=$DEVICE_TYPE" >"$OUT/data/ambidex/device_type"
chmod 0444 "$OUT/data/ambidex/device_type"
cat >"$OUT/data/ambidex/agent.toml" <<END
rootfs_part_a = "${PART}2"
rootfs_part_b = "${PART}3"

[boot]
kind = "grub"
env_dir = "/boot/efi/grub-ambidex-env"
END
# what the factory has put into slot A
"$CLI" artifact write bootstrap-artifact --artifact-name "$ARTIFACT_NAME" --compatible-types "$DEVICE_TYPE" \
    --provides "rootfs-image.version:$ARTIFACT_NAME" \
    --provides "rootfs-image.checksum:$(sha256sum "$IMAGE" | cut -d' ' -f1)" \
    --no-progress --output-path "$OUT/data/ambidex/bootstrap.mender"
truncate -s 128M "$OUT/data.ext4"
mkfs.ext4 -q -F -E root_owner=0:0 -L data -d "$OUT/data" "$OUT/data.ext4"

# ---- the boot partition
cp "$GRUB/grub.cfg" "$OUT/grub.cfg"
cat >"$OUT/board.cfg" <<END
set rootfs_a=${PART}2
set rootfs_b=${PART}3
set kernel_args="$(option BR2_AMBIDEX_KERNEL_ARGS)"
END
# GRUB can neither create nor grow it: 1024 bytes
{
    printf '# GRUB Environment Block\nediting=0\nmender_boot_part=2\nmender_boot_part_hex=2\nupgrade_available=0\nbootcount=0\n'
    head -c 1024 /dev/zero | tr '\0' '#'
} | head -c 1024 >"$OUT/grub-env"

# ---- the disk
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/root" "$tmp/work"
genimage --rootpath "$tmp/root" --tmppath "$tmp/work" --inputpath "$BINARIES_DIR" --outputpath "$BINARIES_DIR" \
    --config "$here/genimage.cfg"
