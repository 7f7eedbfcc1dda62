//! Two real `ambidex-server` processes on one PostgreSQL, one NATS and one S3 server, and devices that
//! talk to either of them.

mod device;
mod installation;

pub use device::Device;
pub use installation::{Engines, Installation};
