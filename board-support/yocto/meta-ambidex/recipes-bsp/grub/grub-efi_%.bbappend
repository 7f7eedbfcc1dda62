# Everything that the configuration of the boot selection uses, inside the one program: no slot can break it.
GRUB_BUILDIN:append = "${@' part_gpt fat ext2 normal configfile loadenv linux test regexp echo serial terminal sleep reboot halt boot true' if d.getVar('AMBIDEX_BOOTLOADER') == 'grub' else ''}"
