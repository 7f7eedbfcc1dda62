//! What the reference client left on a device that used to run it: its name and provides.
//!
//! Read once, when this agent has no name of its own; the file is left as it is, so that the way back is open.
//! Source: reference agent, section 3.4.

mod lmdb;

use std::{collections::BTreeMap, path::Path};

use ambidex_machine::Facts;
use ambidex_platform::fs;

use super::store::UNKNOWN_NAME;

/// The reference's database in the state directory.
const FILE: &str = "mender-store";
const NAME: &str = "artifact-name";
const GROUP: &str = "artifact-group";
const PROVIDES: &str = "artifact-provides";
const STATE: &str = "state";
/// It holds a few kilobytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Whether the reference client has left its database.
pub(crate) fn was_here(state_dir: &Path) -> bool {
    state_dir.join(FILE).exists()
}

/// Name, group and provides as the reference client knew them; `None` without a name.
///
/// # Errors
/// Text that says why the file cannot be used.
pub(super) fn facts(state_dir: &Path) -> Result<Option<Facts>, String> {
    let path = state_dir.join(FILE);
    let named = |reason: &str| format!("'{}': {reason}", path.display());
    let Some(file) =
        fs::read_if_present(&path, FILE_BYTES_MAX).map_err(|error| error.to_string())?
    else {
        return Ok(None);
    };
    let values = lmdb::read(&file, &[NAME, GROUP, PROVIDES, STATE]).map_err(named)?;
    let text = |key: &str| {
        let value = values.get(key)?.to_vec();
        String::from_utf8(value)
            .ok()
            .filter(|text| !text.is_empty())
    };
    let Some(artifact_name) = text(NAME).filter(|name| name != UNKNOWN_NAME) else {
        return Ok(None);
    };
    let artifact_group = text(GROUP);
    let provides = match text(PROVIDES) {
        None => BTreeMap::new(),
        Some(json) => serde_json::from_str(&json)
            .map_err(|error| named(&format!("its provides are no object of texts: {error}")))?,
    };
    if text(STATE).is_some() {
        log::warn!(
            "the previous client was in the middle of a deployment, which it will not finish; the server offers it again"
        );
    }
    Ok(Some(Facts {
        artifact_name,
        artifact_group,
        payload_type: None,
        provides: Some(provides),
        clears: None,
    }))
}
