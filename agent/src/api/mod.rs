//! The one HTTP door of the agent.
mod error;
pub use error::{LinkError, LinkErrorKind};
pub struct Link;
