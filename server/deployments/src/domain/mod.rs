//! The rules of deployments and artifacts. No SQL, no HTTP.

pub mod abort;
pub mod artifact;
pub mod creation;
pub mod decommission;
pub mod deployment;
pub mod device;
pub mod draft;
pub mod intake;
pub mod phase;
pub mod poll;
pub mod recovery;
pub mod release;
pub mod removal;
pub mod report;
