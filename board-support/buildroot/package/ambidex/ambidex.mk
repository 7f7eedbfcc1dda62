################################################################################
#
# ambidex
#
################################################################################

AMBIDEX_VERSION = $(call qstrip,$(BR2_AMBIDEX_VERSION))
AMBIDEX_SITE = $(call qstrip,$(BR2_AMBIDEX_SITE))
AMBIDEX_SITE_METHOD = git
AMBIDEX_LICENSE = Apache-2.0
AMBIDEX_LICENSE_FILES = LICENSE
HOST_AMBIDEX_CARGO_BUILD_OPTS = --package ambidex --bin ambidex

define HOST_AMBIDEX_INSTALL_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/release/ambidex $(HOST_DIR)/bin/ambidex
endef

$(eval $(host-cargo-package))
