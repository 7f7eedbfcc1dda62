//! The Ambidex server: every service in one process.
//!
//! Owns the command line, the configuration, the data directory, the listeners and the wiring of the
//! services. Does not own any rule of a service.

#![forbid(unsafe_code)]

mod access_check;
mod address;
mod backup;
mod cli;
mod config;
mod data_dir;
mod hints;
mod log;
mod metrics;
mod openapi;
mod ports;
mod secrets;
mod serve;
mod services;
mod tenancy;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

/// Runs the command line of this process. Exit code 0: done, 1: failure, 2: wrong usage.
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ambidex-server: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(verbs::run(cli));
    // Threads of a cut-off request must not hold up the end of the process.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ambidex-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}
