//! Verbs that talk to a device that is connected to the server: one file a verb.
//!
//! [`socket`] is the session that they all use, [`device`] finds the device that is meant.

mod copy;
mod copy_local;
mod copy_path;
mod copy_session;
mod device;
mod forward;
mod forward_spec;
mod pipe;
mod screen;
mod session;
mod socket;
mod ssh_proxy;
mod stdio;
mod terminal;
mod tty;

pub use copy::Arguments as Copy;
pub use forward::Arguments as PortForward;
pub use session::Arguments as Session;
pub use ssh_proxy::Arguments as SshProxy;
pub use terminal::Arguments as Terminal;
