//! What every parser of the device agent keeps, whatever it is fed.
//!
//! One file a parser: a function that takes any bytes and panics when a property breaks, and the inputs to begin with
//! (`seeds`). Two callers share them: the fuzz targets of `tests/fuzz`, which look for an input that breaks one, and
//! `tests/mutations.rs`, which tries some thousands of damaged seeds in every test run.
//!
//! The parsers are reached by the doors that the agent uses: public functions, and files in a folder.

pub mod allocation;
mod artifact;
mod bootloader;
mod config;
mod delta;
mod input;
mod journal;
mod module;
pub mod mutation;
mod predecessor;
mod scratch;
mod seeds;
mod session;
mod texts;

/// A parser under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Panics when a property breaks.
    pub check: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target {
        name: "artifact",
        check: artifact::check,
        seeds: artifact::seeds,
    },
    Target {
        name: "config",
        check: config::check,
        seeds: config::seeds,
    },
    Target {
        name: "journal",
        check: journal::check,
        seeds: journal::seeds,
    },
    Target {
        name: "module",
        check: module::check,
        seeds: module::seeds,
    },
    Target {
        name: "session",
        check: session::check,
        seeds: session::seeds,
    },
    Target {
        name: "predecessor",
        check: predecessor::check,
        seeds: predecessor::seeds,
    },
    Target {
        name: "bootloader",
        check: bootloader::check,
        seeds: bootloader::seeds,
    },
    Target {
        name: "texts",
        check: texts::check,
        seeds: texts::seeds,
    },
    Target {
        name: "delta",
        check: delta::check,
        seeds: delta::seeds,
    },
];

/// The target of this name.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn target(name: &str) -> &'static Target {
    TARGETS
        .iter()
        .find(|target| target.name == name)
        .unwrap_or_else(|| panic!("there is no target {name}"))
}
