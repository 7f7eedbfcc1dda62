//! The `[remote]` table: from what the files say to what remote access may do.
//!
//! Nothing is open by default: without a user, and without a plain `enabled = true`, there is no remote
//! access; root must be named; files that run as somebody else need a yes of their own.

use std::{path::Path, time::Duration};

use ambidex_connect::{
    Settings,
    settings::{FileLimits, FileTransfer, NoTarget, PortForward, Sessions, Targets, Terminal},
};

use super::{
    remote_schema::{RawFileLimits, RawRemote},
    schema::Seconds,
};

/// Below the state directory.
const STATE: &str = "remote";
/// Ten years; longer is a mistake, and overflows clocks.
const SECONDS_MAX: f64 = 315_360_000.0;
/// More than a device starts at all.
const SHELLS_MAX: usize = 16;

/// What is wrong with a key: its native name and the reason.
pub(super) type Bad = (&'static str, String);

/// The settings, or `None` when remote access is off.
pub(super) fn settings(raw: RawRemote, state: &Path) -> Result<Option<Settings>, Bad> {
    let user = raw.user.filter(|user| !user.is_empty());
    // checked also where it is off: who switches it on must not be surprised
    let defaults = Settings::new(user.clone(), state.join(STATE));
    let shell = raw.shell.unwrap_or(defaults.terminal.shell);
    if !Path::new(&shell).is_absolute() {
        return Err((
            "remote.shell",
            format!("is '{shell}'; give an absolute path"),
        ));
    }
    let (width, height) = defaults.terminal.size;
    let size = (
        raw.terminal.width.filter(|n| *n > 0).unwrap_or(width),
        raw.terminal.height.filter(|n| *n > 0).unwrap_or(height),
    );
    let max_per_user = raw.sessions.max_per_user.unwrap_or(1);
    if !(1..=SHELLS_MAX).contains(&max_per_user) {
        return Err((
            "remote.sessions.max_per_user",
            format!("must be between 1 and {SHELLS_MAX}"),
        ));
    }
    let settings = Settings {
        terminal: Terminal {
            enabled: raw.terminal.enabled.unwrap_or(true),
            user: user.clone(),
            shell,
            arguments: raw.shell_arguments,
            size,
        },
        sessions: Sessions {
            max_per_user,
            expire_after: expiry(
                "remote.sessions.expire_after_seconds",
                raw.sessions.expire_after_seconds,
                None,
            )?,
            expire_after_idle: expiry(
                "remote.sessions.expire_after_idle_seconds",
                raw.sessions.expire_after_idle_seconds,
                defaults.sessions.expire_after_idle,
            )?,
        },
        file_transfer: FileTransfer {
            enabled: raw.file_transfer.enabled.unwrap_or(true),
            limits: limits(raw.file_transfer.limits)?,
        },
        port_forward: PortForward {
            enabled: raw.port_forward.enabled.unwrap_or(true),
            targets: targets(raw.port_forward.targets)?,
        },
        commands: raw.commands.enabled.unwrap_or(true),
        ..defaults
    };
    Ok(raw.enabled.unwrap_or(user.is_some()).then_some(settings))
}

/// 0 means never.
fn expiry(
    key: &'static str,
    given: Option<Seconds>,
    default: Option<Duration>,
) -> Result<Option<Duration>, Bad> {
    match given {
        None => Ok(default),
        Some(Seconds(0.0)) => Ok(None),
        Some(Seconds(value)) if (0.001..=SECONDS_MAX).contains(&value) => {
            Ok(Some(Duration::from_secs_f64(value)))
        }
        Some(Seconds(value)) => Err((key, format!("is {value}; give seconds, or 0 for never"))),
    }
}

/// Without a list everything is allowed, with an empty one nothing.
fn targets(given: Option<Vec<String>>) -> Result<Targets, Bad> {
    let Some(given) = given else {
        return Ok(Targets::default());
    };
    let targets: Result<_, _> = given.iter().map(|text| text.parse()).collect();
    targets.map(Targets::only).map_err(|error: NoTarget| {
        (
            "remote.port_forward.targets",
            format!("holds a mistake: {error}"),
        )
    })
}

fn limits(raw: RawFileLimits) -> Result<FileLimits, Bad> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let chroot = given(raw.chroot);
    if let Some(chroot) = chroot.as_deref()
        && !Path::new(chroot).is_absolute()
    {
        return Err((
            "remote.file_transfer.limits.chroot",
            format!("is '{chroot}'; give an absolute path"),
        ));
    }
    let umask = match given(raw.umask) {
        None => 0,
        Some(text) => u32::from_str_radix(&text, 8)
            .ok()
            .filter(|umask| *umask <= 0o777)
            .ok_or_else(|| {
                (
                    "remote.file_transfer.limits.umask",
                    format!("is '{text}'; give permissions in octal, for example \"022\""),
                )
            })?,
    };
    Ok(FileLimits {
        enabled: raw.enabled.unwrap_or(false),
        chroot: chroot.map(Into::into),
        follow_symlinks: raw.follow_symlinks.unwrap_or(false),
        allow_overwrite: raw.allow_overwrite.unwrap_or(false),
        allow_suid: raw.allow_suid.unwrap_or(false),
        owner_get: raw.owner_get.unwrap_or_default(),
        group_get: raw.group_get.unwrap_or_default(),
        owner_put: given(raw.owner_put),
        group_put: given(raw.group_put),
        umask,
        max_file_size: raw.max_file_size.unwrap_or(0),
        tx_bytes_per_minute: raw.max_bytes_tx_per_minute.unwrap_or(0),
        rx_bytes_per_minute: raw.max_bytes_rx_per_minute.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Settings>, Bad> {
        settings(toml::from_str(text).unwrap(), Path::new("/state"))
    }

    #[test]
    fn nothing_is_open_by_default() {
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("user = \"\""), Ok(None));
        let on = read("user = \"nobody\"").unwrap().unwrap();
        assert_eq!(
            on,
            Settings::new(Some("nobody".to_owned()), "/state/remote".into())
        );
        assert!(!on.file_transfer.limits.allow_suid);
        assert_eq!(read("user = \"nobody\"\nenabled = false"), Ok(None));
        // files and ports without anybody to be
        let files = read("enabled = true").unwrap().unwrap();
        assert!(files.terminal.account().is_err());
    }

    #[test]
    fn only_the_listed_targets_are_reached() {
        let text =
            "user = \"x\"\n[port_forward]\ntargets = [\"127.0.0.1:*\", \"printer.lan:9100\"]";
        let targets = read(text).unwrap().unwrap().port_forward.targets;
        let listed = ["127.0.0.1:*", "printer.lan:9100"].map(|text| text.parse().unwrap());
        assert_eq!(targets, Targets::only(listed.to_vec()));
        let free = read("user = \"x\"").unwrap().unwrap().port_forward.targets;
        assert_eq!(free, Targets::default());
    }

    #[test]
    fn zero_is_never() {
        let text =
            "user = \"x\"\n[sessions]\nexpire_after_idle_seconds = 0\nexpire_after_seconds = 1.5";
        let sessions = read(text).unwrap().unwrap().sessions;
        assert_eq!(sessions.expire_after_idle, None);
        assert_eq!(sessions.expire_after, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn mistakes_name_their_key() {
        for (text, key) in [
            ("shell = \"sh\"", "remote.shell"),
            (
                "[sessions]\nmax_per_user = 0",
                "remote.sessions.max_per_user",
            ),
            (
                "[sessions]\nexpire_after_seconds = -1",
                "remote.sessions.expire_after_seconds",
            ),
            (
                "[port_forward]\ntargets = [\"127.0.0.1\"]",
                "remote.port_forward.targets",
            ),
            (
                "[file_transfer.limits]\numask = \"9\"",
                "remote.file_transfer.limits.umask",
            ),
            (
                "[file_transfer.limits]\nchroot = \"data\"",
                "remote.file_transfer.limits.chroot",
            ),
        ] {
            assert_eq!(read(text).unwrap_err().0, key, "{text}");
        }
    }
}
