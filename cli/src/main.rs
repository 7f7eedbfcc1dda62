//! The operator command line: artifacts, fleet and remote access.
//!
//! Owns: arguments, files and the terminal of a person or a pipeline. One file a verb. What an
//! artifact is lives in `ambidex-artifact`, what the server understands in `ambidex-wire`.
//!
//! Exit codes: 0 done, 1 failure, 2 usage, 3 not logged in or refused, 4 the awaited deployment
//! failed.

#![forbid(unsafe_code)]

mod artifact;
mod exit;
mod fleet;
mod interrupt;
mod output_file;
mod progress;
mod remote;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::exit::Failure;

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Parser)]
#[command(
    name = "ambidex",
    version,
    about = "Make artifacts, update a fleet of devices with them, and reach into the devices",
    after_help = "\
Examples:
  Write an artifact of a root file system image:
    ambidex artifact write rootfs-image -f rootfs.ext4 -c qemux86-64 -n release-2 -o release-2.mender
  Look at it:
    ambidex artifact read release-2.mender
  Deploy it:
    ambidex login --server https://updates.example.com
    ambidex artifacts upload release-2.mender
    ambidex deployments create --artifact release-2 --all --watch
  Look at a device:
    ambidex terminal pump-7
    ambidex cp pump-7:/var/log/messages ."
)]
struct Cli {
    /// How results are shown.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORM"
    )]
    output: OutputForm,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write, read, check and sign artifacts; needs no server.
    Artifact(artifact::Arguments),
    /// Log in at a server.
    Login(fleet::Login),
    /// Show and admit devices.
    Devices(fleet::Devices),
    /// Upload and manage artifacts on the server.
    Artifacts(fleet::Artifacts),
    /// Update devices, and follow how it goes.
    Deployments(fleet::Deployments),
    /// Work in a shell on a device.
    Terminal(remote::Terminal),
    /// Copy a file to or from a device.
    Cp(remote::Copy),
    /// Make ports of a device, or of its network, ports of this machine.
    PortForward(remote::PortForward),
    /// Carry an SSH connection to a device, for OpenSSH's ProxyCommand.
    SshProxy(remote::SshProxy),
    /// Show, play and save recorded terminal sessions.
    Session(remote::Session),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ambidex: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(interrupt::guarded(run(cli)));
    // Work that was interrupted may still hold a thread; it ends with the process.
    runtime.shutdown_background();
    code
}

async fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.verb {
        Verb::Artifact(arguments) => artifact::run(arguments, cli.output).await,
        Verb::Login(arguments) => arguments.run().await,
        Verb::Devices(arguments) => arguments.run(cli.output).await,
        Verb::Artifacts(arguments) => arguments.run(cli.output).await,
        Verb::Deployments(arguments) => arguments.run(cli.output).await,
        Verb::Terminal(arguments) => arguments.run().await,
        Verb::Cp(arguments) => arguments.run(cli.output).await,
        Verb::PortForward(arguments) => arguments.run(cli.output).await,
        Verb::SshProxy(arguments) => arguments.run().await,
        Verb::Session(arguments) => arguments.run(cli.output).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, error }) => {
            eprintln!("ambidex: {error:#}");
            code.into()
        }
    }
}
