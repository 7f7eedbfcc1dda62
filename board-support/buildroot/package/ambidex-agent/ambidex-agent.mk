################################################################################
#
# ambidex-agent
#
################################################################################

AMBIDEX_AGENT_PREBUILT = $(call qstrip,$(BR2_PACKAGE_AMBIDEX_AGENT_PREBUILT))
AMBIDEX_AGENT_LICENSE = Apache-2.0
AMBIDEX_AGENT_LICENSE_FILES = LICENSE

ifneq ($(AMBIDEX_AGENT_PREBUILT),)
# units and modules come from the repository itself, the program as it is
AMBIDEX_AGENT_VERSION = prebuilt
AMBIDEX_AGENT_SITE = $(BR2_EXTERNAL_AMBIDEX_PATH)/../..
AMBIDEX_AGENT_SITE_METHOD = local
AMBIDEX_AGENT_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude /target --exclude /.git
AMBIDEX_AGENT_BUILT = $(AMBIDEX_AGENT_PREBUILT)
else
AMBIDEX_AGENT_VERSION = $(call qstrip,$(BR2_AMBIDEX_VERSION))
AMBIDEX_AGENT_SITE = $(call qstrip,$(BR2_AMBIDEX_SITE))
AMBIDEX_AGENT_SITE_METHOD = git
AMBIDEX_AGENT_CARGO_BUILD_OPTS = --package ambidex-agent --bin ambidex-agent
AMBIDEX_AGENT_BUILT = $(@D)/target/$(RUSTC_TARGET_NAME)/$(if $(BR2_ENABLE_DEBUG),debug,release)/ambidex-agent
ifeq ($(BR2_PACKAGE_AMBIDEX_AGENT)$(AMBIDEX_AGENT_VERSION),y)
ifeq ($(BR_BUILDING),y)
$(error BR2_AMBIDEX_VERSION is empty: name the commit of $(AMBIDEX_AGENT_SITE) to build, or a program built elsewhere in BR2_PACKAGE_AMBIDEX_AGENT_PREBUILT)
endif
endif
endif

define AMBIDEX_AGENT_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(AMBIDEX_AGENT_BUILT) $(TARGET_DIR)/usr/bin/ambidex-agent
	$(INSTALL) -D -m 0755 $(@D)/agent/support/inventory/mender-inventory-bootloader-integration \
		$(TARGET_DIR)/usr/share/ambidex/inventory/mender-inventory-bootloader-integration
	$(INSTALL) -d -m 0755 $(TARGET_DIR)/etc/ambidex $(TARGET_DIR)/usr/share/ambidex/identity
	$(INSTALL) -D -m 0644 $(@D)/agent/support/io.mender.AuthenticationManager.conf \
		$(TARGET_DIR)/usr/share/dbus-1/system.d/io.mender.AuthenticationManager.conf
endef

ifeq ($(BR2_PACKAGE_AMBIDEX_AGENT_MODULES),y)
define AMBIDEX_AGENT_INSTALL_MODULES
	$(foreach module,single-file directory script,\
		$(INSTALL) -D -m 0755 $(@D)/update-modules/$(module)/$(module) \
			$(TARGET_DIR)/usr/share/ambidex/modules/v3/$(module)$(sep))
endef
AMBIDEX_AGENT_POST_INSTALL_TARGET_HOOKS += AMBIDEX_AGENT_INSTALL_MODULES
endif

define AMBIDEX_AGENT_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/agent/support/ambidex-agent.service \
		$(TARGET_DIR)/usr/lib/systemd/system/ambidex-agent.service
endef

define AMBIDEX_AGENT_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(AMBIDEX_AGENT_PKGDIR)/S95ambidex-agent \
		$(TARGET_DIR)/etc/init.d/S95ambidex-agent
endef

ifneq ($(AMBIDEX_AGENT_PREBUILT),)
$(eval $(generic-package))
else
$(eval $(cargo-package))
endif
