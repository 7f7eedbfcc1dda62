//! `status`, `show-artifact`, `show-provides`: read the state, change nothing but the bootstrap artifact.

use std::fmt::Write as _;

use ambidex_platform::lock::StateLock;

use crate::{
    VERSION,
    config::{self, Config, KeySource},
    daemon::{PresenceError, daemon_pid},
    deployment::{Store, bootstrap, predecessor, store::UNKNOWN_NAME},
};

pub(super) fn show_artifact(config: &Config) -> Result<u8, String> {
    let store = open(config)?;
    super::print(&format!(
        "{}\n",
        store.artifact_name().unwrap_or(UNKNOWN_NAME)
    ));
    Ok(0)
}

pub(super) fn show_provides(config: &Config) -> Result<u8, String> {
    let store = open(config)?;
    let mut text = String::new();
    for (key, value) in store.provides() {
        line(&mut text, format_args!("{key}={value}"));
    }
    super::print(&text);
    Ok(0)
}

/// Opens the state. A device that has no name yet gets it from its previous client or from the bootstrap
/// artifact, unless somebody else is at work; the artifact is removed also when it was not needed.
fn open(config: &Config) -> Result<Store, String> {
    let mut store = Store::open(&config.roots.state).map_err(|error| error.to_string())?;
    let (state, file) = (&config.roots.state, config.roots.bootstrap_artifact());
    let inherits = store.artifact_name().is_none() && predecessor::was_here(state);
    if (inherits || file.exists())
        && let Ok(_lock) = StateLock::acquire(state)
        && let Err(error) = bootstrap::ensure_name(&mut store, state, &file)
    {
        log::warn!("{error}");
    }
    Ok(store)
}

pub(super) fn show(config: &Config) -> Result<u8, String> {
    let store = open(config)?;
    let mut text = String::new();
    let mut say = |key: &str, value: &str| line(&mut text, format_args!("{key:<16}{value}"));
    say("version", VERSION);
    let files: Vec<String> = config
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    say(
        "configuration",
        &either(files.join(", "), "none found; defaults are used"),
    );
    say("state", &config.roots.state.display().to_string());
    say(
        "server",
        &either(config.servers.join(", "), "none; set server_url"),
    );
    say(
        "device type",
        &config::device_type(config).unwrap_or_else(|error| format!("unknown: {error}")),
    );
    let key = config
        .auth_private_key
        .clone()
        .unwrap_or_else(|| KeySource::File(config.roots.device_key()));
    say(
        "device key",
        &match &key {
            KeySource::File(path) if !path.exists() => "not made yet".to_owned(),
            source => source.to_string(),
        },
    );
    say("artifact", store.artifact_name().unwrap_or(UNKNOWN_NAME));
    say(
        "daemon",
        &match daemon_pid(&config.roots.state) {
            Ok(pid) => format!("running, process {pid}"),
            Err(PresenceError::Absent(_)) => "not running".to_owned(),
            Err(error) => error.to_string(),
        },
    );
    say("remote access", &remote(config));
    say(
        "in progress",
        &match (store.deployment(), store.standalone()) {
            (Some(record), _) => format!("deployment {} ({:?})", record.deployment_id, record.step),
            (None, Some(pending)) => {
                format!(
                    "{} by hand ({:?}); commit, rollback or resume",
                    pending.facts.artifact_name, pending.at
                )
            }
            (None, None) => "nothing".to_owned(),
        },
    );
    if !store.reports().is_empty() {
        let waiting: Vec<&str> = store
            .reports()
            .iter()
            .map(|report| report.deployment_id.as_str())
            .collect();
        say("not yet reported", &waiting.join(", "));
    }
    super::print(&text);
    Ok(0)
}

#[cfg(feature = "remote-terminal")]
fn remote(config: &Config) -> String {
    let Some(settings) = &config.remote else {
        return "off; set remote.user".to_owned();
    };
    let terminal = match settings.terminal.account() {
        Ok(account) => format!("terminal as {}", account.name),
        Err(error) => format!("no terminal ({error})"),
    };
    let mut offered = vec![terminal];
    for (name, on) in [
        ("file transfer", settings.file_transfer.enabled),
        ("port forward", settings.port_forward.enabled),
        ("commands", settings.commands),
    ] {
        if on {
            offered.push(name.to_owned());
        }
    }
    offered.join(", ")
}

#[cfg(not(feature = "remote-terminal"))]
fn remote(_: &Config) -> String {
    "not part of this build".to_owned()
}

fn either(text: String, otherwise: &str) -> String {
    if text.is_empty() {
        otherwise.to_owned()
    } else {
        text
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("invariant: writing to a String cannot fail");
}
