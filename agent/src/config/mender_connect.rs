//! The reference's `mender-connect.conf`, where nothing is said of remote access in our own configuration.
//!
//! Its keys become those of our `[remote]` table; their names are taken in any case, as the reference's
//! parser does. What only its own connection needs (servers, certificates, intervals) is passed over. A
//! broken file must not keep a device from its updates: it is logged, and remote access stays off.
//!
//! Source: remote-terminal facts, section 9.

use std::path::{Path, PathBuf};

use ambidex_platform::fs;
use serde_json::{Map, Value};

use super::{
    Roots,
    remote_schema::{
        RawFileLimits, RawFileTransfer, RawPortForward, RawRemote, RawSessions, RawSwitch,
        RawTerminal,
    },
    schema::Seconds,
};

const NAME: &str = "mender-connect.conf";
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Where the reference keeps its files; a device that is moved to this agent has them there.
const REFERENCE: [&str; 2] = ["/var/lib/mender", "/etc/mender"];
/// The default roots of both spellings.
const DEFAULT: [&str; 2] = ["/etc/ambidex", "/etc/mender"];
const IDLE_SECONDS: f64 = 600.0;

/// What the files say, if there are any; and their names.
pub(super) fn read(roots: &Roots) -> Option<(RawRemote, Vec<PathBuf>)> {
    let mut folders = vec![roots.state.clone(), roots.conf.clone()];
    // a device with folders of its own has nothing to do with the default ones
    if DEFAULT.iter().any(|folder| roots.conf == Path::new(folder)) {
        folders.splice(0..0, REFERENCE.map(PathBuf::from));
    }
    folders.dedup();
    let mut merged = Map::new();
    let mut files = Vec::new();
    for file in folders.into_iter().map(|folder| folder.join(NAME)) {
        match object(&file) {
            Ok(None) => {}
            Ok(Some(object)) => {
                merge(&mut merged, object);
                files.push(file);
            }
            Err(reason) => {
                log::error!("'{}': {reason}; remote access stays off", file.display());
                return None;
            }
        }
    }
    (!files.is_empty()).then(|| (remote(&merged), files))
}

fn object(file: &Path) -> Result<Option<Map<String, Value>>, String> {
    let bytes = fs::read_if_present(file, FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(Some(folded(object))),
        Ok(_) => Err("it must be one JSON object".to_owned()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}

fn folded(object: Map<String, Value>) -> Map<String, Value> {
    object
        .into_iter()
        .map(|(key, value)| {
            let value = match value {
                Value::Object(inner) => Value::Object(folded(inner)),
                other => other,
            };
            (key.to_ascii_lowercase(), value)
        })
        .collect()
}

/// Key by key, also inside of tables.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn remote(conf: &Map<String, Value>) -> RawRemote {
    let at = |path: &[&str]| {
        let (last, tables) = path.split_last()?;
        let table = tables
            .iter()
            .try_fold(conf, |at, name| at.get(*name)?.as_object())?;
        table.get(*last).filter(|value| !value.is_null())
    };
    let text = |path: &[&str]| {
        let text = at(path)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let yes = |path: &[&str]| at(path).and_then(Value::as_bool);
    let on = |name: &str| RawSwitch {
        enabled: yes(&[name, "disable"]).map(|off| !off),
    };
    let number = |path: &[&str]| at(path).and_then(Value::as_u64);
    let list = |path: &[&str]| {
        let list = at(path)?.as_array()?.iter();
        Some(list.filter_map(|v| v.as_str().map(str::to_owned)).collect())
    };
    let limit = |name: &'static str| ["limits", "filetransfer", name];
    let expires = yes(&["sessions", "stopexpired"]).unwrap_or(true);
    let seconds = |name: &str, default: f64| {
        let given = at(&["sessions", name]).and_then(Value::as_f64);
        Some(Seconds(if expires {
            given.unwrap_or(default)
        } else {
            0.0
        }))
    };
    RawRemote {
        enabled: None,
        user: text(&["user"]),
        shell: text(&["shellcommand"]),
        shell_arguments: list(&["shellarguments"]),
        terminal: RawTerminal {
            enabled: on("terminal").enabled,
            width: number(&["terminal", "width"]).and_then(|n| u16::try_from(n).ok()),
            height: number(&["terminal", "height"]).and_then(|n| u16::try_from(n).ok()),
        },
        sessions: RawSessions {
            max_per_user: number(&["sessions", "maxperuser"])
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| *n > 0),
            expire_after_seconds: seconds("expireafter", 0.0),
            expire_after_idle_seconds: seconds("expireafteridle", IDLE_SECONDS),
        },
        file_transfer: RawFileTransfer {
            enabled: on("filetransfer").enabled,
            limits: RawFileLimits {
                enabled: yes(&["limits", "enabled"]),
                chroot: text(&limit("chroot")),
                follow_symlinks: yes(&limit("followsymlinks")),
                allow_overwrite: yes(&limit("allowoverwrite")),
                allow_suid: yes(&limit("allowsuid")),
                owner_get: list(&limit("ownerget")),
                group_get: list(&limit("groupget")),
                owner_put: text(&limit("ownerput")),
                group_put: text(&limit("groupput")),
                umask: text(&limit("umask")),
                max_file_size: number(&limit("maxfilesize")),
                max_bytes_tx_per_minute: number(&[
                    "limits",
                    "filetransfer",
                    "counters",
                    "maxbytestxperminute",
                ]),
                max_bytes_rx_per_minute: number(&[
                    "limits",
                    "filetransfer",
                    "counters",
                    "maxbytesrxperminute",
                ]),
            },
        },
        port_forward: RawPortForward {
            enabled: on("portforward").enabled,
            targets: None,
        },
        commands: on("menderclient"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(dir: &Path) -> Roots {
        Roots {
            spelling: super::super::Spelling::Native,
            conf: dir.join("conf"),
            data: dir.join("data"),
            state: dir.join("state"),
        }
    }

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn every_key_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            "state/mender-connect.conf",
            r#"{"User": "old", "Sessions": {"MaxPerUser": 3, "ExpireAfter": 9}}"#,
        );
        write(
            dir.path(),
            "conf/mender-connect.conf",
            r#"{"user": "nobody", "ShellCommand": "/bin/bash", "ShellArguments": ["-i"],
                "ServerURL": "https://x", "ReconnectIntervalSeconds": 5,
                "Terminal": {"Width": 100, "Height": 30, "Disable": false},
                "Sessions": {"ExpireAfterIdle": 7},
                "FileTransfer": {"Disable": false}, "PortForward": {"Disable": true},
                "MenderClient": {"Disable": true},
                "Limits": {"Enabled": true, "FileTransfer": {"Chroot": "/data", "FollowSymLinks": true,
                  "AllowOverwrite": true, "AllowSuid": true, "OwnerGet": ["a", "b"], "GroupGet": ["g"],
                  "OwnerPut": "o", "GroupPut": "p", "Umask": "022", "MaxFileSize": 12,
                  "Counters": {"MaxBytesTxPerMinute": 1, "MaxBytesRxPerMinute": 2}}}}"#,
        );
        let (raw, files) = read(&roots(dir.path())).unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(raw.user.as_deref(), Some("nobody"));
        assert_eq!(raw.shell.as_deref(), Some("/bin/bash"));
        assert_eq!(raw.shell_arguments.unwrap(), ["-i"]);
        assert_eq!(
            (raw.terminal.width, raw.terminal.height),
            (Some(100), Some(30))
        );
        assert_eq!(raw.sessions.max_per_user, Some(3));
        assert_eq!(raw.sessions.expire_after_seconds, Some(Seconds(9.0)));
        assert_eq!(raw.sessions.expire_after_idle_seconds, Some(Seconds(7.0)));
        assert_eq!(raw.port_forward.enabled, Some(false));
        assert_eq!(raw.commands.enabled, Some(false));
        assert_eq!(raw.file_transfer.enabled, Some(true));
        let limits = raw.file_transfer.limits;
        assert_eq!(limits.chroot.as_deref(), Some("/data"));
        assert_eq!(limits.owner_get.unwrap(), ["a", "b"]);
        assert_eq!(limits.max_file_size, Some(12));
        assert_eq!(limits.max_bytes_tx_per_minute, Some(1));
        assert_eq!(limits.max_bytes_rx_per_minute, Some(2));
        assert_eq!(limits.allow_suid, Some(true));
    }

    #[test]
    fn defaults_are_those_of_the_reference_and_a_broken_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&roots(dir.path())).is_none());
        write(dir.path(), "conf/mender-connect.conf", r#"{"User": "x"}"#);
        let (raw, _) = read(&roots(dir.path())).unwrap();
        assert_eq!(raw.sessions.expire_after_idle_seconds, Some(Seconds(600.0)));
        write(
            dir.path(),
            "conf/mender-connect.conf",
            r#"{"Sessions": {"StopExpired": false, "ExpireAfter": 5}}"#,
        );
        let (raw, _) = read(&roots(dir.path())).unwrap();
        assert_eq!(raw.sessions.expire_after_seconds, Some(Seconds(0.0)));
        assert_eq!(raw.sessions.expire_after_idle_seconds, Some(Seconds(0.0)));
        write(dir.path(), "conf/mender-connect.conf", "{");
        assert!(read(&roots(dir.path())).is_none());
    }
}
