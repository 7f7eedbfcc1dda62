//! `ambidex-testdb`: runs a throw-away PostgreSQL server until standard input ends. Prints its URL.
//! Exit code 3: there is no PostgreSQL on this machine.

use std::io::Read as _;
use std::process::ExitCode;

use ambidex_testdb::{Cluster, Missing, Options};

fn main() -> ExitCode {
    let cluster = match Cluster::start(Options::default()) {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("ambidex-testdb: {error:#}");
            return ExitCode::from(if error.is::<Missing>() { 3 } else { 1 });
        }
    };
    println!("{}", cluster.url());
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    drop(cluster);
    ExitCode::SUCCESS
}
