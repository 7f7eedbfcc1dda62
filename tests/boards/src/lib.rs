//! The update loop on QEMU boards
