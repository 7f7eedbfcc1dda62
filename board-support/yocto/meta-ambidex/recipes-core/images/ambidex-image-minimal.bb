SUMMARY = "An example of an A/B image: a console, ssh and the agent"
LICENSE = "MIT"

inherit core-image

IMAGE_FEATURES += "read-only-rootfs ssh-server-dropbear"
IMAGE_INSTALL = "packagegroup-core-boot kernel-image ${CORE_IMAGE_EXTRA_INSTALL}"
