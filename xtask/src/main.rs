//! Developer commands: `cargo xtask VERB`. One file a verb.
//!
//! The heavy parts live in the crates they belong to (`tests/boards`, `tests/load`, `qemu/`); this program
//! makes sure that what they need is there, builds, and starts them. It depends on next to nothing, so
//! that the first command of a newcomer compiles in seconds.

mod agent;
mod bench;
mod boards;
mod ci;
mod deb;
mod demo;
mod fuzz;
mod hil;
mod packages;
mod python_tools;
mod second_engine;
mod test;
mod test_output;
mod tidy;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask VERB [options]

  demo [--keep] [--yes]    a board updates itself, then a bad update rolls itself back
  test [--yes] [FILTER]    all tests, the ones on QEMU boards included
  ci [--yes]               tidy, then test: what the pull request check runs
  tidy                     dependency floors and path rules of the architecture
  bench [NAME...]          the figures of the README; see cargo xtask bench --help
  fuzz [TARGET...]         inputs that break the agent's parsers; see cargo xtask fuzz --help
  boards [build|run] [BOARD]
                           makes a board's image; runs it with its console on this terminal
  agent --target ARCH      the static agent for a device: x86_64, aarch64 or armv7
  deb [--arch ARCH] ...    Debian packages; see cargo xtask deb --help
  hil [--board NAME] ...   every flow and power cuts, on every board or on hardware; see cargo xtask hil --help

  --yes   install missing Debian packages without asking (implied when CI is set)";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = match verb.as_str() {
        "demo" => demo::run(rest),
        "test" => test::run(rest),
        "ci" => ci::run(rest),
        "tidy" => tidy::run(rest),
        "agent" => agent::run(rest),
        "bench" => bench::run(rest),
        "fuzz" => fuzz::run(rest),
        "boards" => boards::run(rest),
        "deb" => deb::run(rest),
        "hil" => hil::run(rest),
        "" | "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("xtask: unknown verb {other}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {verb}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
