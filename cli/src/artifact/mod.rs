//! `ambidex artifact`: artifacts as files, without a server.

mod bootstrap;
mod describe;
mod dump;
mod input;
mod module_image;
mod read;
mod rootfs_delta;
mod rootfs_image;
mod sign;
mod validate;
mod write;

use clap::{Args, Subcommand};

use crate::OutputForm;
use crate::exit::Failure;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write an artifact.
    Write {
        #[command(subcommand)]
        kind: Box<Kind>,
    },
    /// Show what an artifact is and holds.
    Read(read::Arguments),
    /// Check every byte of an artifact, and its signature.
    Validate(validate::Arguments),
    /// Sign an artifact that exists.
    Sign(sign::Arguments),
    /// Take files, scripts and meta-data out of an artifact.
    Dump(dump::Arguments),
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// An image of a root file system, for A/B devices.
    RootfsImage(rootfs_image::Arguments),
    /// The difference to the image that runs: small, for devices that run exactly that one.
    RootfsDelta(rootfs_delta::Arguments),
    /// Files for an update module.
    ModuleImage(module_image::Arguments),
    /// No payload: states what a new device has installed.
    #[command(name = "bootstrap-artifact", visible_alias = "bootstrap")]
    Bootstrap(bootstrap::Arguments),
}

pub async fn run(arguments: Arguments, form: OutputForm) -> Result<(), Failure> {
    // All of it is files and computation; the thread that waits for signals stays free.
    let work = tokio::task::spawn_blocking(move || match arguments.verb {
        Verb::Write { kind } => match *kind {
            Kind::RootfsImage(arguments) => arguments.run(),
            Kind::RootfsDelta(arguments) => arguments.run(),
            Kind::ModuleImage(arguments) => arguments.run(),
            Kind::Bootstrap(arguments) => arguments.run(),
        },
        Verb::Read(arguments) => arguments.run(form),
        Verb::Validate(arguments) => arguments.run(),
        Verb::Sign(arguments) => arguments.run(),
        Verb::Dump(arguments) => arguments.run(),
    });
    match work.await {
        Ok(outcome) => outcome,
        Err(error) => Err(anyhow::anyhow!("the work ended unexpectedly: {error}").into()),
    }
}
