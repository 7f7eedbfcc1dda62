# Sourced by the scripts beside it. Buildroot hands over BR2_CONFIG, TARGET_DIR, BINARIES_DIR.

fail() { echo "ambidex: $*" >&2; exit 1; }

# option NAME: the value of a string option of Buildroot's configuration
option() { sed -n "s/^$1=\"\(.*\)\"\$/\1/p" "$BR2_CONFIG"; }

DEVICE_TYPE=$(option BR2_AMBIDEX_DEVICE_TYPE)
ARTIFACT_NAME=$(option BR2_AMBIDEX_ARTIFACT_NAME)
STORAGE_DEVICE=$(option BR2_AMBIDEX_STORAGE_DEVICE)
[ -n "$DEVICE_TYPE" ] && [ -n "$ARTIFACT_NAME" ] && [ -n "$STORAGE_DEVICE" ] ||
    fail "$BR2_CONFIG lacks device type, name of the artifact or disk (menu External options, Ambidex)"
case $STORAGE_DEVICE in
    *[0-9]) PART=${STORAGE_DEVICE}p ;;
    *) PART=$STORAGE_DEVICE ;;
esac
