//! The keys of both spellings.
//!
//! One list: the native name. The reference client's name of a key is the same word without
//! underscores in any case (`update_poll_interval_seconds`, `UpdatePollIntervalSeconds`), so both
//! files end in the same [`Raw`].

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::remote_schema::RawRemote;

/// What a file says; nothing is filled in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    pub server_url: Option<String>,
    pub servers: Option<Vec<RawServer>>,
    pub server_certificate: Option<OneOrMany>,
    pub tenant_token: Option<String>,
    pub device_tier: Option<String>,
    pub skip_verify: Option<bool>,
    pub https_client: Option<RawClient>,
    pub security: Option<RawSecurity>,
    pub artifact_verify_key: Option<String>,
    pub artifact_verify_keys: Option<Vec<String>>,
    pub device_type_file: Option<String>,
    pub update_poll_interval_seconds: Option<Seconds>,
    pub inventory_poll_interval_seconds: Option<Seconds>,
    pub retry_poll_interval_seconds: Option<Seconds>,
    pub retry_poll_first_seconds: Option<Seconds>,
    pub retry_poll_count: Option<u32>,
    pub retry_download_count: Option<u32>,
    pub retry_download_interval_seconds: Option<Seconds>,
    pub connect_timeout_seconds: Option<Seconds>,
    pub request_timeout_seconds: Option<Seconds>,
    pub download_idle_timeout_seconds: Option<Seconds>,
    pub state_script_timeout_seconds: Option<Seconds>,
    pub state_script_retry_timeout_seconds: Option<Seconds>,
    pub state_script_retry_interval_seconds: Option<Seconds>,
    pub module_timeout_seconds: Option<Seconds>,
    pub update_log_path: Option<String>,
    pub daemon_log_level: Option<String>,
    pub rootfs_part_a: Option<String>,
    pub rootfs_part_b: Option<String>,
    pub running_root: Option<String>,
    pub verify_written: Option<bool>,
    pub rootfs_module: Option<bool>,
    pub boot: Option<RawBoot>,
    pub reboot_command: Option<Vec<String>>,
    pub reboot_timeout_seconds: Option<Seconds>,
    pub commit: Option<RawCommit>,
    pub download: Option<RawDownload>,
    pub maintenance_window: Option<RawWindow>,
    pub consent: Option<RawConsent>,
    pub dbus_login: Option<bool>,
    pub remote: Option<RawRemote>,
}

/// A server: a URL, or a table with one.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a URL or a table with the key server_url")]
pub(crate) enum RawServer {
    Url(String),
    Table(ServerTable),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerTable {
    pub server_url: String,
}

impl RawServer {
    pub fn url(&self) -> &str {
        match self {
            Self::Url(url) => url,
            Self::Table(table) => &table.server_url,
        }
    }
}

/// One path or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a path or a list of paths")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClient {
    pub certificate: Option<String>,
    pub key: Option<String>,
    pub ssl_engine: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSecurity {
    pub auth_private_key: Option<String>,
    pub key_type: Option<String>,
    pub ssl_engine: Option<String>,
    pub pkcs11_module: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBoot {
    pub kind: Option<String>,
    pub env_dir: Option<String>,
    pub fw_env_config: Option<String>,
    pub autoboot_dir: Option<String>,
    pub boot_part_a: Option<u32>,
    pub boot_part_b: Option<u32>,
    pub firmware_dir: Option<String>,
    pub armed_file: Option<String>,
    pub esp: Option<String>,
    pub script: Option<String>,
    pub prepare_slot: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCommit {
    pub server_contact: Option<bool>,
    pub health_check: Option<Vec<String>>,
    pub health_check_timeout_seconds: Option<Seconds>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDownload {
    pub resume_after_restart: Option<bool>,
    pub directory: Option<String>,
    pub checkpoint_bytes: Option<u64>,
    pub keep_free_bytes: Option<u64>,
    pub rate_limit: Option<u64>,
    pub abort_check_interval_seconds: Option<Seconds>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWindow {
    pub times: Option<Vec<String>>,
    pub time_zone: Option<String>,
    pub phases: Option<Vec<String>>,
    pub needs_synchronised_clock: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConsent {
    pub before: Option<Vec<String>>,
}

/// A duration in seconds; decimals are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seconds(pub f64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Seconds;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Seconds, E> {
                Ok(Seconds(value))
            }

            #[expect(
                clippy::cast_precision_loss,
                reason = "seconds are far below 2^52; more is refused later"
            )]
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Seconds, E> {
                Ok(Seconds(value as f64))
            }

            #[expect(
                clippy::cast_precision_loss,
                reason = "seconds are far below 2^52; more is refused later"
            )]
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Seconds, E> {
                Ok(Seconds(value as f64))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Native names of the top level; the order is that of the documentation.
pub(crate) const TOP: &[&str] = &[
    "server_url",
    "servers",
    "server_certificate",
    "tenant_token",
    "device_tier",
    "skip_verify",
    "https_client",
    "security",
    "artifact_verify_key",
    "artifact_verify_keys",
    "device_type_file",
    "update_poll_interval_seconds",
    "inventory_poll_interval_seconds",
    "retry_poll_interval_seconds",
    "retry_poll_first_seconds",
    "retry_poll_count",
    "retry_download_count",
    "retry_download_interval_seconds",
    "connect_timeout_seconds",
    "request_timeout_seconds",
    "download_idle_timeout_seconds",
    "state_script_timeout_seconds",
    "state_script_retry_timeout_seconds",
    "state_script_retry_interval_seconds",
    "module_timeout_seconds",
    "update_log_path",
    "daemon_log_level",
    "rootfs_part_a",
    "rootfs_part_b",
    "running_root",
    "verify_written",
    "rootfs_module",
    "boot",
    "reboot_command",
    "reboot_timeout_seconds",
    "commit",
    "download",
    "maintenance_window",
    "consent",
    "dbus_login",
    "remote",
];

/// Native names of tables inside a table.
const TABLES: &[&str] = &[
    "terminal",
    "sessions",
    "file_transfer",
    "limits",
    "port_forward",
    "commands",
];

/// Native names inside a table.
pub(crate) const NESTED: &[&str] = &[
    "server_url",
    "certificate",
    "key",
    "ssl_engine",
    "auth_private_key",
    "key_type",
    "pkcs11_module",
    "kind",
    "env_dir",
    "fw_env_config",
    "autoboot_dir",
    "boot_part_a",
    "boot_part_b",
    "firmware_dir",
    "armed_file",
    "esp",
    "script",
    "prepare_slot",
    "server_contact",
    "health_check",
    "health_check_timeout_seconds",
    "resume_after_restart",
    "directory",
    "checkpoint_bytes",
    "keep_free_bytes",
    "rate_limit",
    "abort_check_interval_seconds",
    "times",
    "time_zone",
    "phases",
    "needs_synchronised_clock",
    "before",
    "enabled",
    "user",
    "shell",
    "shell_arguments",
    "width",
    "height",
    "max_per_user",
    "expire_after_seconds",
    "expire_after_idle_seconds",
    "chroot",
    "follow_symlinks",
    "allow_overwrite",
    "allow_suid",
    "owner_get",
    "group_get",
    "owner_put",
    "group_put",
    "umask",
    "max_file_size",
    "max_bytes_tx_per_minute",
    "max_bytes_rx_per_minute",
    "targets",
];

fn native_name(names: &[&'static str], key: &str) -> Option<&'static str> {
    let folded = |text: &str| -> String {
        text.chars()
            .filter(|c| *c != '_')
            .map(|c| c.to_ascii_lowercase())
            .collect()
    };
    let wanted = folded(key);
    names.iter().copied().find(|name| folded(name) == wanted)
}

/// Translates an object with the reference client's key names into native ones.
///
/// Unknown keys are left out, as the reference does; they are returned for the log.
pub(crate) fn from_reference(object: Map<String, Value>) -> (Map<String, Value>, Vec<String>) {
    let mut unknown = Vec::new();
    let mut native = Map::new();
    for (key, value) in object {
        match native_name(TOP, &key) {
            Some(name) => {
                native.insert(name.to_owned(), nested_from_reference(value));
            }
            None => unknown.push(key),
        }
    }
    (native, unknown)
}

fn nested_from_reference(value: Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .filter_map(|(key, value)| {
                    let name = native_name(NESTED, &key).or_else(|| native_name(TABLES, &key))?;
                    Some((name.to_owned(), nested_from_reference(value)))
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(nested_from_reference).collect()),
        other => other,
    }
}

/// Removes every top-level key whose value has the wrong type, as the reference does; they are
/// returned with the reason for the log.
pub(crate) fn drop_wrongly_typed(object: &mut Map<String, Value>) -> Vec<(String, String)> {
    let mut dropped = Vec::new();
    object.retain(|key, value| {
        let alone: Map<String, Value> = std::iter::once((key.clone(), value.clone())).collect();
        match serde_json::from_value::<Raw>(Value::Object(alone)) {
            Ok(_) => true,
            Err(error) => {
                dropped.push((key.clone(), error.to_string()));
                false
            }
        }
    });
    dropped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_key_of_the_schema_is_listed() {
        for name in TOP {
            let alone: Map<String, Value> =
                std::iter::once(((*name).to_owned(), Value::Null)).collect();
            serde_json::from_value::<Raw>(Value::Object(alone)).unwrap();
        }
        let all: Map<String, Value> = TOP
            .iter()
            .map(|name| ((*name).to_owned(), Value::Null))
            .collect();
        let debug = format!(
            "{:?}",
            serde_json::from_value::<Raw>(Value::Object(all)).unwrap()
        );
        assert_eq!(
            debug.matches(": None").count(),
            TOP.len(),
            "Raw has a field that TOP lacks"
        );
    }

    #[test]
    fn reference_names_in_any_case() {
        let (native, unknown) = from_reference(object(json!({
            "ServerURL": "https://a", "updatepollintervalSECONDS": 5, "RootfsPartA": "/dev/x2",
            "HttpsClient": {"Certificate": "/c", "Key": "/k", "SSLEngine": "e"},
            "Servers": [{"ServerURL": "https://b"}], "DBus": {"Enabled": true}
        })));
        assert_eq!(unknown, ["DBus"]);
        assert_eq!(native["server_url"], "https://a");
        assert_eq!(native["update_poll_interval_seconds"], 5);
        assert_eq!(native["https_client"]["ssl_engine"], "e");
        assert_eq!(native["servers"][0]["server_url"], "https://b");
    }

    #[test]
    fn wrongly_typed_values_are_dropped_one_by_one() {
        let mut native = object(json!({"skip_verify": "yes", "retry_poll_count": 3}));
        let dropped = drop_wrongly_typed(&mut native);
        assert_eq!(dropped.len(), 1);
        assert_eq!(dropped[0].0, "skip_verify");
        assert_eq!(native.len(), 1);
    }
}
