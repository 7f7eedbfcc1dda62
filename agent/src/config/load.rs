//! Reading and merging the files.
//!
//! Two files, the second overriding the first key by key: one in the state directory (persistent,
//! survives a root file system update) and one in the configuration directory (comes with each root
//! file system). A broken default file of the reference spelling only warns, as the reference does;
//! a native file and a file that was named on the command line must be right.

use std::{
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{
    Config, ConfigError, Roots, Spelling, check,
    roots::RootFlags,
    schema::{self, Raw},
};

/// No honest configuration is larger; more is refused before it is parsed.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    pub conf_dir: Option<PathBuf>,
    pub data_dir: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub fallback_config: Option<PathBuf>,
    pub trusted_certificates: Option<PathBuf>,
    pub skip_verify: bool,
    pub log_level: Option<log::LevelFilter>,
}

/// Reads, merges and checks the configuration.
///
/// # Errors
/// [`ConfigError`] with file, key and remedy.
pub fn load(overrides: &Overrides) -> Result<Config, ConfigError> {
    load_with(overrides, &|name| std::env::var_os(name))
}

/// What can still be known when [`load`] fails: defaults and the persistent file, without servers.
///
/// For one purpose: a new root file system may bring a broken configuration, and the update that
/// brought it must still be rolled back.
///
/// # Errors
/// When not even the defaults can be used.
pub fn load_persistent(overrides: &Overrides) -> Result<Config, ConfigError> {
    let (roots, fallback, _) = places(overrides, &|name| std::env::var_os(name));
    let read = merge([fallback])
        .and_then(|(merged, files)| finish(merged, files, roots.clone(), overrides));
    let mut config = match read {
        Ok(config) => config,
        Err(error) => {
            log::error!("{error}");
            finish(Map::new(), Vec::new(), roots, &Overrides::default())?
        }
    };
    config.servers.clear();
    Ok(config)
}

/// A file and whether somebody named it.
type Place = (PathBuf, bool);

fn places(overrides: &Overrides, env: &dyn Fn(&str) -> Option<OsString>) -> (Roots, Place, Place) {
    let flags = RootFlags {
        conf: overrides.conf_dir.clone(),
        data: overrides.data_dir.clone(),
        state: overrides.state_dir.clone(),
    };
    let forced = overrides.config.as_deref().map(spelling_of);
    let roots = Roots::settle(&flags, forced, env, &|path| path.is_file());
    let name = roots.spelling.file_name();
    let fallback = (
        overrides
            .fallback_config
            .clone()
            .unwrap_or_else(|| roots.state.join(name)),
        overrides.fallback_config.is_some(),
    );
    let main = (
        overrides
            .config
            .clone()
            .unwrap_or_else(|| roots.conf.join(name)),
        overrides.config.is_some(),
    );
    (roots, fallback, main)
}

fn load_with(
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Config, ConfigError> {
    let (roots, fallback, main) = places(overrides, env);
    let (merged, files) = merge([fallback, main])?;
    finish(merged, files, roots, overrides)
}

/// The keys of all files, later ones winning.
fn merge(
    places: impl IntoIterator<Item = Place>,
) -> Result<(Map<String, Value>, Vec<PathBuf>), ConfigError> {
    let mut merged = Map::new();
    let mut files = Vec::new();
    for (path, named) in places {
        let Some(text) = read(&path, named)? else {
            continue;
        };
        match parse(&path, &text) {
            Ok(object) => {
                merged.extend(object);
                files.push(path);
            }
            Err(error) if !named && spelling_of(&path) == Spelling::Reference => {
                log::warn!("{error}; the file is ignored");
            }
            Err(error) => return Err(error),
        }
    }
    Ok((merged, files))
}

fn finish(
    merged: Map<String, Value>,
    files: Vec<PathBuf>,
    roots: Roots,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let raw = serde_json::from_value::<Raw>(Value::Object(merged)).map_err(|error| {
        ConfigError::Syntax {
            file: files.last().cloned().unwrap_or_default(),
            reason: error.to_string(),
        }
    })?;
    check::check(raw, roots, files, overrides)
}

/// A file whose name ends in `.toml` is native, every other is the reference client's JSON.
fn spelling_of(path: &Path) -> Spelling {
    if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("toml"))
    {
        Spelling::Native
    } else {
        Spelling::Reference
    }
}

/// The text, or `None` when the file is absent and nobody named it.
fn read(path: &Path, named: bool) -> Result<Option<String>, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable {
        file: path.to_owned(),
        reason,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(None),
        Err(error) => {
            return Err(unreadable(format!(
                "{error}; check the path and that the agent runs as root"
            )));
        }
    };
    let mut text = String::new();
    let bytes = file
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(format!("{error}; it must be a regular UTF-8 text file")))?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!(
            "it is larger than {FILE_BYTES_MAX} bytes; is this the right file?"
        )));
    }
    Ok(Some(text))
}

fn parse(path: &Path, text: &str) -> Result<Map<String, Value>, ConfigError> {
    match spelling_of(path) {
        Spelling::Native => parse_native(path, text),
        Spelling::Reference => parse_reference(path, text),
    }
}

fn parse_native(path: &Path, text: &str) -> Result<Map<String, Value>, ConfigError> {
    let syntax = |reason: String| ConfigError::Syntax {
        file: path.to_owned(),
        reason,
    };
    // once into the schema, for its error messages with line and column; once as a table, for the merge
    toml::from_str::<Raw>(text).map_err(|error| syntax(error.to_string().trim_end().to_owned()))?;
    let table: toml::Table =
        toml::from_str(text).map_err(|error| syntax(error.to_string().trim_end().to_owned()))?;
    match serde_json::to_value(table) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(syntax("it is no table".to_owned())),
        Err(error) => Err(syntax(error.to_string())),
    }
}

fn parse_reference(path: &Path, text: &str) -> Result<Map<String, Value>, ConfigError> {
    let value: Value = serde_json::from_str(text).map_err(|error| ConfigError::Syntax {
        file: path.to_owned(),
        reason: format!("{error}; it must be one JSON object"),
    })?;
    let Value::Object(object) = value else {
        return Err(ConfigError::Syntax {
            file: path.to_owned(),
            reason: "it must be one JSON object".to_owned(),
        });
    };
    let (mut native, unknown) = schema::from_reference(object);
    for key in unknown {
        log::debug!("{}: the key '{key}' is unknown and ignored", path.display());
    }
    for (key, reason) in schema::drop_wrongly_typed(&mut native) {
        log::warn!("{}: the key '{key}' is ignored: {reason}", path.display());
    }
    Ok(native)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device in a temporary folder.
    fn load_files(files: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let overrides = Overrides {
            conf_dir: Some(dir.path().join("conf")),
            data_dir: Some(dir.path().join("data")),
            state_dir: Some(dir.path().join("state")),
            ..Overrides::default()
        };
        load_with(&overrides, &|_| None).map_err(|error| error.to_string())
    }

    #[test]
    fn the_configuration_overrides_the_persistent_file_key_by_key() {
        let config = load_files(&[
            (
                "state/agent.toml",
                "rootfs_part_a = \"/dev/a\"\nserver_url = \"https://old\"\n",
            ),
            ("conf/agent.toml", "server_url = \"https://new/\"\n"),
        ])
        .unwrap();
        assert_eq!(config.rootfs_part_a.as_deref(), Some("/dev/a"));
        assert_eq!(config.servers, ["https://new"]);
        assert_eq!(config.files.len(), 2);
    }

    #[test]
    fn defaults_are_the_reference_ones() {
        let config = load_files(&[]).unwrap();
        assert_eq!(config.polls.update_interval.as_secs(), 1800);
        assert_eq!(config.polls.inventory_interval.as_secs(), 28_800);
        assert_eq!(config.polls.retry_interval_max.as_secs(), 300);
        assert_eq!(config.http.download_retry_count, 10);
        assert_eq!(config.module_timeout.as_secs(), 14_400);
        assert!(
            config.commit.server_contact
                && config.verify_keys.is_empty()
                && config.servers.is_empty()
        );
    }

    #[test]
    fn a_broken_default_file_of_the_reference_spelling_only_warns() {
        let good = r#"{"ServerURL": "https://a"}"#;
        let config = load_files(&[("state/mender.conf", "{"), ("conf/mender.conf", good)]).unwrap();
        assert_eq!(config.servers, ["https://a"]);
        // a native file must be right
        assert!(load_files(&[("state/agent.toml", "x ="), ("conf/agent.toml", "")]).is_err());
    }

    #[test]
    fn a_zero_interval_of_a_reference_file_means_the_default() {
        let conf = r#"{"RetryPollIntervalSeconds": 0, "UpdatePollIntervalSeconds": 7}"#;
        let config = load_files(&[("conf/mender.conf", conf)]).unwrap();
        assert_eq!(config.polls.retry_interval_max.as_secs(), 300);
        assert_eq!(config.polls.update_interval.as_secs(), 7);
    }

    #[test]
    fn errors_name_the_file_the_key_and_the_place() {
        let error = load_files(&[("conf/agent.toml", "server_url = \"https://a\"\nservr = 1\n")])
            .unwrap_err();
        assert!(
            error.contains("agent.toml") && error.contains("servr") && error.contains("line 2"),
            "{error}"
        );
        let error = load_files(&[("conf/mender.conf", r#"{"ServerURL": "ftp://a"}"#)]).unwrap_err();
        assert!(
            error.contains("mender.conf") && error.contains("'ServerURL'"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_number_is_refused_and_not_passed_over() {
        for value in ["nan", "-nan", "inf", "-inf"] {
            let text = format!("server_url = \"https://a\"\nmodule_timeout_seconds = {value}\n");
            let error = load_files(&[("conf/agent.toml", &text)]).unwrap_err();
            assert!(error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let text = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
        assert!(
            load_files(&[("conf/agent.toml", &text)])
                .unwrap_err()
                .contains("larger than")
        );
    }

    #[test]
    fn what_can_be_known_without_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("agent.toml"),
            "rootfs_part_a = \"/dev/a\"\nserver_url = \"https://x\"",
        )
        .unwrap();
        let overrides = Overrides {
            config: Some(dir.path().join("broken.toml")),
            state_dir: Some(dir.path().to_owned()),
            ..Overrides::default()
        };
        assert!(load(&overrides).is_err());
        let config = load_persistent(&overrides).unwrap();
        assert_eq!(config.rootfs_part_a.as_deref(), Some("/dev/a"));
        assert!(config.servers.is_empty());
    }

    /// The example teaches every key, and each of its commented lines is one that works.
    #[test]
    fn the_example_is_complete_and_right() {
        let example = include_str!("../../support/agent.toml");
        let is_key = |line: &str| {
            line.split_once(" = ")
                .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        };
        let live: String = example
            .lines()
            .map(|line| line.strip_prefix("# ").unwrap_or(line))
            .filter(|line| is_key(line) || line.starts_with('['))
            // one of each pair that excludes the other
            .filter(|line| {
                !line.starts_with("servers") && !line.starts_with("artifact_verify_key =")
            })
            .map(|line| format!("{line}\n"))
            .collect();
        load_files(&[("conf/agent.toml", &live)]).unwrap();
        for key in schema::TOP {
            let taught =
                example.contains(&format!("{key} = ")) || example.contains(&format!("[{key}]"));
            assert!(taught, "the example says nothing of {key}");
        }
        for key in schema::NESTED.iter().filter(|key| **key != "ssl_engine") {
            assert!(
                example.contains(&format!("{key} = ")),
                "the example says nothing of {key}"
            );
        }
    }
}
