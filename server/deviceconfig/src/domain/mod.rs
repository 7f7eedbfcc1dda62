//! Rules of device configuration.

pub(crate) mod configuration;
pub(crate) mod device;
