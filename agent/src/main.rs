//! The device agent's program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ambidex_platform::names::without_plugins();
    ambidex_agent::cli::main(std::env::args_os())
}
