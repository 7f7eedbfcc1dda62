//! The rules of deployments and artifacts. No SQL, no HTTP.

pub mod abort;
pub mod artifact;
pub mod audit;
pub mod configuration;
pub mod control_map;
pub mod creation;
pub mod decommission;
pub mod deployment;
pub mod device;
pub mod direct_upload;
pub mod draft;
pub mod dynamic;
pub mod generate;
pub mod grants;
pub mod history;
pub mod intake;
pub mod link;
pub mod phase;
pub mod poll;
pub mod recovery;
pub mod release;
pub mod removal;
pub mod report;
