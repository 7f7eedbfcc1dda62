//! `install`, `commit`, `rollback`, `resume`: the lock, Ctrl-C, and what is printed.

use std::sync::Arc;

use ambidex_platform::{fs, lock::StateLock};

use super::args::{Invocation, Verb};
use crate::{
    api::Link,
    config::Config,
    daemon::signals::Stops,
    deployment::{
        standalone::{Source, Standalone, StopBefore},
        stop,
    },
};

pub(super) async fn run(invocation: &Invocation, config: Arc<Config>) -> Result<u8, String> {
    let stops: Vec<StopBefore> = invocation
        .stop_before
        .iter()
        .map(|word| {
            word.parse()
                .map_err(|error: crate::deployment::standalone::UnknownStop| error.to_string())
        })
        .collect::<Result<_, _>>()?;
    let state = config.roots.state.clone();
    fs::create_dir(&state, 0o700).map_err(|error| format!("{error}; run this as root"))?;
    let _lock = StateLock::acquire(&state).map_err(|error| error.to_string())?;

    let (stopper, stop) = stop::pair();
    let mut signals =
        Stops::listen().map_err(|error| format!("signals cannot be received: {error}"))?;
    tokio::spawn(async move {
        signals.next().await;
        log::info!("asked to stop");
        stopper.stop();
        // somebody has to hold it, or nobody could ask any more
        std::future::pending::<()>().await;
    });

    let link = Link::new(Arc::clone(&config));
    let mut standalone =
        Standalone::new(config, link, stops, stop).map_err(|error| error.to_string())?;
    let report = match &invocation.verb {
        Verb::Install(source) => standalone.install(&Source::from(source.as_str())).await,
        Verb::Commit => standalone.commit().await,
        Verb::Rollback => standalone.rollback().await,
        _ => standalone.resume().await,
    };
    for line in report.lines() {
        super::print(&format!("{line}\n"));
    }
    Ok(report.exit_code(invocation.reboot_exit_code))
}
