//! Log lines on standard error.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::LogFormat;
use crate::config::Log;

/// Starts logging. The level chooses what is logged, for instance `debug` or `ambidex_devauth=debug,info`.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(log.level.as_deref().unwrap_or_default())
        .context("--log-level: give error, warn, info, debug or trace, or part=level,… pairs")?;
    ambidex_kit::access_log(log.access);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second subscriber (tests in one process) is no reason to fail.
    let _ = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
    };
    Ok(())
}
