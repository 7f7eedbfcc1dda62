//! `ambidex-demo [--keep]`: started by `cargo xtask demo`, which builds what it needs first.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let mut keep = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--keep" => keep = true,
            other => {
                eprintln!("ambidex-demo: unknown option {other}; usage: ambidex-demo [--keep]");
                return ExitCode::from(2);
            }
        }
    }
    match ambidex_test_boards::demo::run(keep).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
