//! The real agent on a device without hardware: its two slots are plain files, its boot loader is a few
//! lines here, and a reboot is the end of the process and a new one.
//!
//! What only a kernel and firmware can show is tested on boards (`tests/boards`); this device starts in
//! milliseconds and so carries the many cases.

mod device;
mod images;
mod rig;

pub use device::{Device, LIMIT, Options, SLOT_BYTES};
pub use images::{delta_artifact, image, module_artifact, rootfs_artifact};
pub use rig::Rig;
