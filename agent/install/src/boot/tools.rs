//! The board's own programs for the bootloader environment, called as the reference client calls
//! them (agent-behaviour section 7.1): one call prints everything, one call sets several
//! variables from its standard input.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ambidex_platform::fs::find_program;
use ambidex_platform::process::{self, Captured, Command};

use super::BootError;

const TOOL_TIMEOUT: Duration = Duration::from_secs(60);
/// U-Boot environments are at most 4 MiB; usual ones have 16 KiB.
const PRINT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A pair of programs.
#[derive(Debug, Clone)]
pub struct Tools {
    name: &'static str,
    print: PathBuf,
    set: PathBuf,
}

impl Tools {
    /// GRUB's pair, else U-Boot's.
    #[must_use]
    pub fn find() -> Option<Self> {
        Self::find_grub().or_else(Self::find_uboot)
    }

    pub(super) fn find_grub() -> Option<Self> {
        Self::pair(
            "grub-mender-grubenv tools",
            "grub-mender-grubenv-print",
            "grub-mender-grubenv-set",
        )
    }

    pub(super) fn find_uboot() -> Option<Self> {
        Self::pair("fw_printenv and fw_setenv", "fw_printenv", "fw_setenv")
    }

    fn pair(name: &'static str, print: &str, set: &str) -> Option<Self> {
        Some(Self {
            name,
            print: find_program(print)?,
            set: find_program(set)?,
        })
    }

    /// Two programs at known places.
    #[must_use]
    pub fn at(print: PathBuf, set: PathBuf) -> Self {
        Self {
            name: "boot loader tools",
            print,
            set,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) async fn read(&self) -> Result<BTreeMap<String, String>, BootError> {
        let output = run(Command::new(&self.print, TOOL_TIMEOUT)).await?;
        if output.overflowed {
            return Err(BootError::Tool(format!(
                "{} printed more than {PRINT_BYTES_MAX} bytes",
                self.print.display()
            )));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect())
    }

    /// Sets all variables in one call. Two generations of `fw_setenv` differ in the separator they
    /// want, so the result is read back, and the other one is tried before giving up.
    pub(super) async fn write(&self, changes: &[(&str, &str)]) -> Result<(), BootError> {
        let mut problem = String::new();
        for separator in ["=", " "] {
            let script: String = changes
                .iter()
                .map(|(key, value)| format!("{key}{separator}{value}\n"))
                .collect();
            let mut command = Command::new(&self.set, TOOL_TIMEOUT).arg("-s").arg("-");
            command.stdin = Some(script.into_bytes());
            match run(command).await {
                Err(error) => problem = error.to_string(),
                Ok(_) => {
                    let now = self.read().await?;
                    let missed = changes
                        .iter()
                        .find(|(key, value)| now.get(*key).map_or("", String::as_str) != *value);
                    let Some((key, value)) = missed else {
                        return Ok(());
                    };
                    problem = format!(
                        "{} succeeded, but {key} is {:?} instead of {value:?}",
                        self.set.display(),
                        now.get(*key).map_or("", String::as_str)
                    );
                }
            }
        }
        Err(BootError::Tool(problem))
    }
}

async fn run(command: Command) -> Result<Captured, BootError> {
    let program = command.program.to_string_lossy().into_owned();
    let mut last = String::new();
    let output = process::capture(&command, PRINT_BYTES_MAX, &mut |_, line| {
        log::info!("{program}: {line}");
        line.clone_into(&mut last);
    })
    .await
    .map_err(|error| BootError::Tool(error.to_string()))?;
    if output.exit.success() {
        return Ok(output);
    }
    let said = if last.is_empty() {
        String::new()
    } else {
        format!(": {last}")
    };
    Err(BootError::Tool(format!("{program} {}{said}", output.exit)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use ambidex_platform::fs::write_plain;

    /// A pair of shell programs over a text file; `separator` is what the setter understands.
    fn fake(separator: &str) -> (tempfile::TempDir, Tools) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env.txt");
        write_plain(&file, b"mender_boot_part=2\nother=a=b\n", 0o644).unwrap();
        let print = format!("#!/bin/sh\necho call >> {0}.log\ncat {0}\n", file.display());
        let set = format!(
            "#!/bin/sh\n[ \"$1 $2\" = '-s -' ] || exit 9\necho set >> {0}.log\nwhile IFS='{separator}' read -r k v; do\n  case \"$k\" in *=*) echo \"bad name $k\" >&2; exit 1;; esac\n  grep -v \"^$k=\" {0} > {0}.new; [ -z \"$v\" ] || echo \"$k=$v\" >> {0}.new; mv {0}.new {0}\ndone\n",
            file.display()
        );
        let (print_path, set_path) = (dir.path().join("print"), dir.path().join("set"));
        write_plain(&print_path, print.as_bytes(), 0o755).unwrap();
        write_plain(&set_path, set.as_bytes(), 0o755).unwrap();
        (dir, Tools::at(print_path, set_path))
    }

    #[tokio::test]
    async fn several_variables_are_set_in_one_call() {
        for separator in ["=", " "] {
            let (dir, tools) = fake(separator);
            tools
                .write(&[("mender_boot_part", "3"), ("upgrade_available", "1")])
                .await
                .unwrap();
            let vars = tools.read().await.unwrap();
            assert_eq!(
                (&*vars["mender_boot_part"], &*vars["upgrade_available"]),
                ("3", "1")
            );
            assert_eq!(vars["other"], "a=b");
            let calls = std::fs::read_to_string(dir.path().join("env.txt.log")).unwrap();
            let sets = calls.lines().filter(|line| *line == "set").count();
            assert_eq!(sets, if separator == "=" { 1 } else { 2 });
        }
    }

    #[tokio::test]
    async fn a_failing_tool_is_told_with_its_words() {
        let (dir, _) = fake("=");
        let bad = dir.path().join("bad");
        write_plain(
            &bad,
            b"#!/bin/sh\necho 'Cannot access MTD' >&2\nexit 1\n",
            0o755,
        )
        .unwrap();
        let tools = Tools::at(bad.clone(), bad);
        for text in [
            tools.read().await.unwrap_err().to_string(),
            tools.write(&[("a", "1")]).await.unwrap_err().to_string(),
        ] {
            assert!(
                text.contains("Cannot access MTD") && text.contains("code 1"),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_setter_that_does_nothing_is_noticed() {
        let (dir, tools) = fake("=");
        let idle = dir.path().join("idle");
        write_plain(&idle, b"#!/bin/sh\nexit 0\n", 0o755).unwrap();
        let tools = Tools::at(tools.print, idle);
        let text = tools.write(&[("a", "1")]).await.unwrap_err().to_string();
        assert!(text.contains("a is \"\" instead of \"1\""), "{text}");
    }
}
