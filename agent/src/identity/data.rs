//! Identity data: what the identity script prints, as canonical JSON text.
//!
//! Source: reference agent, section 1. Read anew for every authentication attempt. Without a
//! script the stock rule is used: the MAC address of the first Ethernet interface.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use ambidex_platform::process::{self, Command};
use serde::Serialize;

use crate::config::Roots;

/// Time limit of the identity script.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes an identity may have; a server's limit on a request body is not far above.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// Why there is no identity. The text names the script and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the identity script '{}' {reason}", .script.display())]
    Script { script: PathBuf, reason: String },
    #[error(
        "this device has no Ethernet interface to take its identity from; \
         install an identity script as '{}'", .script.display()
    )]
    NoInterface { script: PathBuf },
}

/// One value, or several when the script printed the key more than once.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Value {
    One(String),
    Many(Vec<String>),
}

/// The identity data: compact JSON with sorted keys.
///
/// # Errors
/// [`IdentityError`] when the script fails, takes too long or prints something else than
/// `key=value` lines.
pub async fn read(roots: &Roots) -> Result<String, IdentityError> {
    read_with(roots, Path::new("/sys/class/net")).await
}

async fn read_with(roots: &Roots, interfaces: &Path) -> Result<String, IdentityError> {
    let script = roots.data.join("identity/mender-device-identity");
    if !script.exists() {
        let address = mac_address(interfaces).ok_or(IdentityError::NoInterface { script })?;
        return Ok(canonical(&BTreeMap::from([(
            "mac".to_owned(),
            Value::One(address),
        )])));
    }
    let failed = |reason: String| IdentityError::Script {
        script: script.clone(),
        reason,
    };
    let command = Command::new(script.as_os_str(), SCRIPT_TIMEOUT);
    let captured = process::capture(&command, OUTPUT_BYTES_MAX, &mut |_, line| {
        log::info!("identity script: {line}");
    })
    .await
    .map_err(|error| failed(format!("does not run: {error}; it must be executable")))?;
    if captured.exit.timed_out {
        return Err(failed(format!(
            "did not end within {} seconds",
            SCRIPT_TIMEOUT.as_secs()
        )));
    }
    if !captured.exit.success() {
        return Err(failed(format!(
            "failed ({}); run it by hand to see why",
            describe(captured.exit)
        )));
    }
    if captured.overflowed {
        return Err(failed(format!(
            "printed more than {OUTPUT_BYTES_MAX} bytes"
        )));
    }
    let text = String::from_utf8(captured.stdout)
        .map_err(|_| failed("printed something that is not UTF-8".to_owned()))?;
    parse(&text)
        .map(|values| canonical(&values))
        .map_err(failed)
}

fn describe(exit: process::Exit) -> String {
    match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    }
}

/// Splits `key=value` lines at the first `=`; any other line spoils the whole.
fn parse(text: &str) -> Result<BTreeMap<String, Value>, String> {
    let mut values = BTreeMap::new();
    for (index, line) in text
        .strip_suffix('\n')
        .unwrap_or(text)
        .split('\n')
        .enumerate()
    {
        let number = index + 1;
        let Some((key, value)) = line.split_once('=') else {
            return Err(format!(
                "printed line {number} without '='; print key=value lines only"
            ));
        };
        if key.is_empty() {
            return Err(format!(
                "printed line {number} without a key; print key=value lines only"
            ));
        }
        let value = value.to_owned();
        match values.remove(key) {
            None => values.insert(key.to_owned(), Value::One(value)),
            Some(Value::One(first)) => {
                values.insert(key.to_owned(), Value::Many(vec![first, value]))
            }
            Some(Value::Many(mut all)) => {
                all.push(value);
                values.insert(key.to_owned(), Value::Many(all))
            }
        };
    }
    Ok(values)
}

fn canonical(values: &BTreeMap<String, Value>) -> String {
    serde_json::to_string(values).expect("invariant: a map of texts is always JSON")
}

/// The MAC address of the Ethernet interface with the lowest index, dummies left out.
fn mac_address(interfaces: &Path) -> Option<String> {
    let attribute = |interface: &Path, name: &str| {
        std::fs::read_to_string(interface.join(name))
            .map(|text| text.trim().to_owned())
            .ok()
    };
    std::fs::read_dir(interfaces)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with("dummy"))
        .filter_map(|entry| {
            let path = entry.path();
            // 1 is ARPHRD_ETHER
            (attribute(&path, "type")? == "1").then_some(())?;
            let index: u32 = attribute(&path, "ifindex")?.parse().ok()?;
            let address = attribute(&path, "address")?;
            (!address.is_empty()).then_some((index, address))
        })
        .min()
        .map(|(_, address)| address)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Spelling;

    fn roots(dir: &Path) -> Roots {
        Roots {
            spelling: Spelling::Native,
            conf: dir.to_owned(),
            data: dir.to_owned(),
            state: dir.to_owned(),
        }
    }

    async fn identity(script: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("identity")).unwrap();
        let path = dir.path().join("identity/mender-device-identity");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        read(&roots(dir.path())).await.map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn keys_are_sorted_and_repeated_ones_become_lists() {
        let text = identity("#!/bin/sh\necho 'serial=a=b'\necho mac=1\necho mac=2\necho mac=3\n")
            .await
            .unwrap();
        assert_eq!(text, r#"{"mac":["1","2","3"],"serial":"a=b"}"#);
    }

    #[tokio::test]
    async fn whatever_is_no_pair_spoils_the_attempt() {
        for (script, expected) in [
            ("#!/bin/sh\necho mac=1\necho\n", "line 2 without '='"),
            ("#!/bin/sh\necho word\n", "line 1 without '='"),
            ("#!/bin/sh\necho =x\n", "without a key"),
            ("#!/bin/sh\n", "line 1"),
            ("#!/bin/sh\necho mac=1\nexit 3\n", "exit code 3"),
            (
                "#!/bin/sh\nhead -c 99999 /dev/zero | tr '\\0' x\n",
                "more than",
            ),
        ] {
            let text = identity(script).await.unwrap_err();
            assert!(text.contains(expected), "{script}: {text}");
        }
    }

    #[tokio::test]
    async fn without_a_script_the_first_ethernet_address_is_the_identity() {
        let dir = tempfile::tempdir().unwrap();
        let net = dir.path().join("net");
        for (name, kind, index, address) in [
            ("lo", "772", "1", "00:00:00:00:00:00"),
            ("dummy0", "1", "2", "d0:00:00:00:00:00"),
            ("eth1", "1", "10", "aa:00:00:00:00:10"),
            ("eth0", "1", "9", "aa:00:00:00:00:09"),
        ] {
            let interface = net.join(name);
            std::fs::create_dir_all(&interface).unwrap();
            for (file, text) in [("type", kind), ("ifindex", index), ("address", address)] {
                std::fs::write(interface.join(file), format!("{text}\n")).unwrap();
            }
        }
        let roots = roots(dir.path());
        assert_eq!(
            read_with(&roots, &net).await.unwrap(),
            r#"{"mac":"aa:00:00:00:00:09"}"#
        );
        let text = read_with(&roots, dir.path()).await.unwrap_err().to_string();
        assert!(text.contains("identity/mender-device-identity"), "{text}");
    }
}
