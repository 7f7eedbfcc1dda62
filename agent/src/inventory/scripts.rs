//! The inventory scripts: `mender-inventory-*` in the data directory, run in order, merged.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ambidex_platform::{
    fs,
    process::{self, Command},
};

use super::Values;

const SCRIPT_TIMEOUT: Duration = Duration::from_secs(10);
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
const PREFIXES: [&str; 2] = ["mender-inventory-", "ambidex-inventory-"];

/// What all scripts print; a script that fails is left out with a warning.
pub(super) async fn collect(folder: &Path) -> Values {
    let mut values = Values::new();
    for script in list(folder) {
        match run(&script).await {
            Ok(found) => {
                for (key, value) in found {
                    values.entry(key).or_default().push(value);
                }
            }
            Err(reason) => {
                log::warn!(
                    "the inventory script '{}' {reason}; its output is left out",
                    script.display()
                );
            }
        }
    }
    values
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            log::warn!(
                "the inventory scripts in '{}' cannot be listed: {error}",
                folder.display()
            );
            return Vec::new();
        }
    };
    let mut scripts: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let named = path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
            let usable = named && fs::is_executable_file(path);
            if !usable {
                log::warn!(
                    "'{}' is no inventory script: it must be executable and its name begin with mender-inventory-",
                    path.display()
                );
            }
            usable
        })
        .collect();
    scripts.sort();
    scripts
}

async fn run(script: &Path) -> Result<Vec<(String, String)>, String> {
    let command = Command::new(script.as_os_str(), SCRIPT_TIMEOUT);
    let captured = process::capture(&command, OUTPUT_BYTES_MAX, &mut |_, line| {
        log::debug!("{}: {line}", script.display());
    })
    .await
    .map_err(|error| format!("does not run ({error})"))?;
    if captured.exit.timed_out {
        return Err(format!(
            "did not end within {} seconds",
            SCRIPT_TIMEOUT.as_secs()
        ));
    }
    if !captured.exit.success() {
        return Err("failed; run it by hand to see why".to_owned());
    }
    if captured.overflowed {
        return Err(format!("printed more than {OUTPUT_BYTES_MAX} bytes"));
    }
    let text = String::from_utf8(captured.stdout)
        .map_err(|_| "printed something that is not UTF-8".to_owned())?;
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| match line.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(format!(
                "printed a line that is not key=value: '{}'",
                line.chars().take(80).collect::<String>()
            )),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn script(folder: &Path, name: &str, body: &str, mode: u32) {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn scripts_merge_in_their_order_and_bad_ones_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        script(
            dir.path(),
            "mender-inventory-b",
            "echo k=2; echo only=b",
            0o755,
        );
        script(
            dir.path(),
            "mender-inventory-a",
            "echo k=1; echo k=x=y",
            0o755,
        );
        script(
            dir.path(),
            "mender-inventory-c",
            "echo k=lost; exit 1",
            0o755,
        );
        script(
            dir.path(),
            "mender-inventory-d",
            "echo k=lost; echo word",
            0o755,
        );
        script(dir.path(), "mender-inventory-e", "echo k=lost", 0o644);
        script(dir.path(), "other", "echo k=lost", 0o755);
        let values = collect(dir.path()).await;
        assert_eq!(values["k"], ["1", "x=y", "2"]);
        assert_eq!(values["only"], ["b"]);
        assert_eq!(values.len(), 2);
    }

    #[tokio::test]
    async fn no_folder_is_no_scripts() {
        assert!(
            collect(Path::new("/nonexistent/inventory"))
                .await
                .is_empty()
        );
    }
}
