//! Rules of workflows: what a definition may say, how a job is started and run.

pub(crate) mod definition;
pub(crate) mod engine;
pub(crate) mod job;
pub(crate) mod task;
pub(crate) mod template;
