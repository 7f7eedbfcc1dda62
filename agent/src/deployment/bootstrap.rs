//! Name and provides of a device that has none: from the reference client's database, if that was here before,
//! or from the bootstrap artifact.
//!
//! Read once, when the device has no name; deleted in any case. Its signature is not checked: whoever can write the
//! state directory owns the device. Source: `agent-behaviour` 6.2.

use std::{fs::File, path::Path};

use ambidex_artifact::{Payload, ReadOptions, Reader, Verification};
use ambidex_machine::Facts;

use super::{
    predecessor,
    store::{Store, StoreError},
};

/// Makes sure that the device has a name.
///
/// # Errors
/// When the state cannot be saved. A bootstrap artifact that cannot be used is logged, and the device is called `unknown`.
pub fn ensure_name(
    store: &mut Store,
    state_dir: &Path,
    bootstrap: &Path,
) -> Result<(), StoreError> {
    if store.artifact_name().is_none() {
        let inherited = predecessor::facts(state_dir).unwrap_or_else(|reason| {
            log::error!("cannot use the previous client's database {reason}");
            None
        });
        let facts = inherited.or_else(|| {
            read(bootstrap).unwrap_or_else(|reason| {
                let path = bootstrap.display();
                log::error!("cannot use the bootstrap artifact {path}: {reason}");
                None
            })
        });
        store.initialise(facts.as_ref())?;
        log::info!(
            "this device is called {}",
            store.artifact_name().unwrap_or_default()
        );
    }
    match std::fs::remove_file(bootstrap) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            log::warn!(
                "cannot remove the bootstrap artifact {}: {error}",
                bootstrap.display()
            );
        }
        _ => {}
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Facts>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let options = ReadOptions::device(Verification::Ignore);
    let reader =
        Reader::open(std::io::BufReader::new(file), &options).map_err(|error| error.to_string())?;
    let header = reader.header();
    if header.payload != Payload::Empty {
        return Err("it has a payload; a bootstrap artifact must be empty".into());
    }
    if !header.scripts.is_empty() {
        return Err("it has state scripts, which a bootstrap artifact cannot run".into());
    }
    let facts = Facts {
        artifact_name: header.name.clone(),
        artifact_group: header.group.clone(),
        payload_type: None,
        provides: Some(header.type_provides.clone()),
        clears: header.clears_provides.clone(),
    };
    reader.finish().map_err(|error| error.to_string())?;
    Ok(Some(facts))
}
