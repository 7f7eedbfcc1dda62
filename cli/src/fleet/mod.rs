//! Verbs that talk to a server: one file a noun.

pub mod api;
mod artifacts;
pub mod connection;
mod deployments;
mod devices;
mod login;
mod profile;
pub mod table;
mod tls;
mod watch;

pub use artifacts::Arguments as Artifacts;
pub use deployments::Arguments as Deployments;
pub use devices::Arguments as Devices;
pub use login::Arguments as Login;
