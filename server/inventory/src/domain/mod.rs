//! The rules of the inventory: pure decisions first, then read, decide, write.

pub mod attribute;
pub mod audit;
pub mod census;
pub mod device;
pub mod document;
pub mod edit;
pub mod filter;
pub mod fleet;
pub mod group;
pub mod matching;
pub mod predicate;
pub mod reach;
pub mod scope;
pub mod search;
pub mod sort;
pub mod statistics;
pub mod tags;
pub mod text;

/// How often a change is decided anew because another writer was faster. Concurrent writers of one device are few.
const ATTEMPTS_MAX: usize = 16;
/// Devices of one write: keeps the writer's turns short.
const BATCH: usize = 200;
