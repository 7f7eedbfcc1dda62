//! The verbs of the program: what is printed and which exit code is given.
//!
//! Standard output carries answers only, everything else is a log line on standard error.

mod args;
mod board;
mod bootstrap;
mod deployment;
mod help;
mod standalone;
mod status;

use std::{ffi::OsString, io::Write as _, process::ExitCode, sync::Arc, time::Duration};

use args::{Invocation, Verb};

use crate::{
    VERSION,
    config::{self, Config},
    daemon,
    deployment::Store,
    logbook,
};

/// Idle helper threads (name resolution, installation) end after this.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// How long a thread that cannot be interrupted may hold up the end of the program.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

const FAILURE: u8 = 1;

/// Runs one verb to its end.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let invocation = match args::parse(args) {
        Ok(invocation) => invocation,
        Err(reason) => {
            complain(&reason);
            return FAILURE.into();
        }
    };
    match &invocation.verb {
        Verb::Help(verb) => {
            print(help::text(verb.as_deref()));
            return ExitCode::SUCCESS;
        }
        Verb::Version => {
            print(&format!("ambidex-agent {VERSION}\n"));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let level = invocation
        .overrides
        .log_level
        .unwrap_or(log::LevelFilter::Info);
    if let Err(error) = logbook::start(level, invocation.log_file.as_deref()) {
        complain(&error.to_string());
        return FAILURE.into();
    }
    match run(&invocation) {
        Ok(code) => code.into(),
        Err(reason) => {
            log::error!("{reason}");
            FAILURE.into()
        }
    }
}

fn run(invocation: &Invocation) -> Result<u8, String> {
    let config = match config::load(&invocation.overrides) {
        Ok(config) => config,
        Err(error) if invocation.verb == Verb::Daemon => rescue(invocation, &error.to_string())?,
        Err(error) => return Err(error.to_string()),
    };
    log::set_max_level(config.log_level);
    let config = Arc::new(config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))?;
    let outcome = runtime.block_on(perform(invocation, config));
    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
    outcome
}

async fn perform(invocation: &Invocation, config: Arc<Config>) -> Result<u8, String> {
    let state = &config.roots.state;
    match &invocation.verb {
        Verb::Daemon => daemon::run(config)
            .await
            .map(|()| 0)
            .map_err(|error| error.to_string()),
        Verb::Deployment(request) => deployment::run(&config, *request),
        Verb::CheckUpdate => daemon::trigger_update(state)
            .map(|()| 0)
            .map_err(|error| error.to_string()),
        Verb::SendInventory => daemon::trigger_inventory(state)
            .map(|()| 0)
            .map_err(|error| error.to_string()),
        Verb::Bootstrap => bootstrap::run(config, invocation.force_bootstrap).await,
        Verb::ShowArtifact => status::show_artifact(&config),
        Verb::ShowProvides => status::show_provides(&config),
        Verb::Status => status::show(&config),
        Verb::BoardCheck => board::check(&config, invocation.exercise).await,
        Verb::Install(_) | Verb::Commit | Verb::Rollback | Verb::Resume => {
            standalone::run(invocation, config).await
        }
        // answered before anything was read
        Verb::Help(_) | Verb::Version => Ok(0),
    }
}

/// With an unusable configuration there is only one thing to do: to finish, which without a server
/// means to roll back, an update that may have brought it.
fn rescue(invocation: &Invocation, reason: &str) -> Result<Config, String> {
    let config = config::load_persistent(&invocation.overrides).map_err(|_| reason.to_owned())?;
    let unfinished =
        Store::open(&config.roots.state).is_ok_and(|store| store.deployment().is_some());
    if !unfinished {
        return Err(reason.to_owned());
    }
    log::error!("{reason}; going on without it only to finish the deployment that is in progress");
    Ok(config)
}

/// Answers go out whole or not at all; a closed pipe is the reader's choice.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn complain(reason: &str) {
    let _ = writeln!(std::io::stderr(), "ambidex-agent: {reason}");
}
