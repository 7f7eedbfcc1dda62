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
    let read = merge([fallback]).and_then(|(merged, files)| finish(merged, files, roots.clone(), overrides));
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
        overrides.fallback_config.clone().unwrap_or_else(|| roots.state.join(name)),
        overrides.fallback_config.is_some(),
    );
    let main = (
        overrides.config.clone().unwrap_or_else(|| roots.conf.join(name)),
        overrides.config.is_some(),
    );
    (roots, fallback, main)
}

fn load_with(overrides: &Overrides, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Config, ConfigError> {
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
        let Some(text) = read(&path, named)? else { continue };
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
    let raw = serde_json::from_value::<Raw>(Value::Object(merged)).map_err(|error| ConfigError::Syntax {
        file: files.last().cloned().unwrap_or_default(),
        reason: error.to_string(),
    })?;
    check::check(raw, roots, files, overrides)
}

/// A file whose name ends in `.toml` is native, every other is the reference client's JSON.
fn spelling_of(path: &Path) -> Spelling {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml")) {
        Spelling::Native
    } else {
        Spelling::Reference
    }
}

/// The text, or `None` when the file is absent and nobody named it.
fn read(path: &Path, named: bool) -> Result<Option<String>, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable { file: path.to_owned(), reason };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(None),
        Err(error) => {
            return Err(unreadable(format!("{error}; check the path and that the agent runs as root")));
        }
    };
    let mut text = String::new();
    let bytes = file
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(format!("{error}; it must be a regular UTF-8 text file")))?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!("it is larger than {FILE_BYTES_MAX} bytes; is this the right file?")));
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
    let syntax = |reason: String| ConfigError::Syntax { file: path.to_owned(), reason };
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
