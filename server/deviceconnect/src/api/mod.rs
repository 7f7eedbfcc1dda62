//! HTTP: extract, call the domain, respond. One function an operation, named by its operation id.

pub(crate) mod device;
pub(crate) mod internal;
pub(crate) mod management;
pub(crate) mod sessions;
mod transfer;
mod upgrade;
