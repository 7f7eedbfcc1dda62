//! The update loop on QEMU boards: what the flows in `tests/` and the demo share.
