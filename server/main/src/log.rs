//! Log lines on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// `AMBIDEX_LOG` chooses what is logged, for instance `debug` or `ambidex_devauth=debug,info`.
pub(crate) fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .with_env_var("AMBIDEX_LOG")
        .from_env_lossy();
    // A second subscriber (tests in one process) is no reason to fail.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
