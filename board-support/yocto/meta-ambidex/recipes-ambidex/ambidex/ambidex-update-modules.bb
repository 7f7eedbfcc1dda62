SUMMARY = "Over-the-air updates: update modules"
DESCRIPTION = "A package for each of the modules that install single files, directories, packages, scripts \
and Compose projects."

require ambidex-source.inc
inherit allarch

AMBIDEX_MODULES = "single-file directory deb rpm script docker"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${datadir}/ambidex/modules/v3
    for module in ${AMBIDEX_MODULES}; do
        install -m 0755 ${S}/update-modules/$module/$module ${D}${datadir}/ambidex/modules/v3/
    done
}

python () {
    packages = []
    for module in d.getVar('AMBIDEX_MODULES').split():
        package = '%s-%s' % (d.getVar('PN'), module)
        packages.append(package)
        d.setVar('FILES:' + package, '${datadir}/ambidex/modules/v3/' + module)
        d.setVar('SUMMARY:' + package, 'Over-the-air updates: the update module ' + module)
    d.setVar('PACKAGES', ' '.join(packages + [d.getVar('PN')]))
    # without a name of one of them: all that need nothing else
    d.setVar('RDEPENDS:' + d.getVar('PN'), ' '.join(p for p in packages if p.split('-')[-1] in ('file', 'directory', 'script')))
    d.setVar('ALLOW_EMPTY:' + d.getVar('PN'), '1')
}
