SUMMARY = "Over-the-air updates: the device's end"
DESCRIPTION = "Asks an update server for deployments, writes them into the inactive root file system or \
hands them to an update module, and makes them permanent only after the server was reached from the new system."

AMBIDEX_PROGRAM = "ambidex-agent"
AMBIDEX_PROFILE = "agent"
AMBIDEX_PREBUILT_ARCH = "${TARGET_ARCH}"
require ambidex-program.inc
inherit systemd

SYSTEMD_SERVICE:${PN} = "ambidex-agent.service"

do_install() {
    ambidex_install_program
    install -d ${D}${systemd_system_unitdir} ${D}${datadir}/dbus-1/system.d
    install -m 0644 ${S}/agent/support/ambidex-agent.service ${D}${systemd_system_unitdir}/
    install -m 0644 ${S}/agent/support/io.mender.AuthenticationManager.conf ${D}${datadir}/dbus-1/system.d/
    install -d ${D}${sysconfdir}/ambidex ${D}${datadir}/ambidex/identity ${D}${datadir}/ambidex/inventory
    install -m 0755 ${S}/agent/support/inventory/mender-inventory-bootloader-integration ${D}${datadir}/ambidex/inventory/
    # state is in the data partition, which every root file system finds there
    install -d ${D}${localstatedir}/lib
    ln -s /data/ambidex ${D}${localstatedir}/lib/ambidex
}

FILES:${PN} += "${datadir}/ambidex ${datadir}/dbus-1 ${systemd_system_unitdir}"
RRECOMMENDS:${PN} += "ca-certificates"
