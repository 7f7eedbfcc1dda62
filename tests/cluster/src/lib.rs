//! Two real `ambidex-server` processes on one PostgreSQL, one NATS and one S3 server, and devices that
//! talk to either of them.

mod device;
mod installation;
mod socket;

pub use device::Device;
pub use installation::{Engines, Installation};
pub use socket::Socket;
