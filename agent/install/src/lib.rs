//! Streams an artifact into a slot or an update module and switches the bootloader
