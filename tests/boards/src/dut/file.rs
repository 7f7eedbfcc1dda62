//! The file that describes a board on the desk.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ambidex_harness::board::Kind;
use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// `cargo xtask hil --hardware FILE`; each key is explained in `qemu/README.md`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardwareFile {
    /// For the table of results.
    pub name: String,
    /// The board of `qemu/boards` with the same releases, partitions and boot loader.
    pub kind: String,
    /// The serial port of the console.
    pub port: PathBuf,
    #[serde(default = "default_baud")]
    pub baud: u32,
    /// Shell commands of the power switch.
    pub power_on: String,
    pub power_off: String,
    /// Shell command that writes the factory image to the storage; without it the board holds release v1 already.
    pub flash: Option<String>,
    /// What to wait for and what to type, in turn, until the console is a root shell.
    #[serde(default)]
    pub login: Vec<String>,
    /// Where the server of the campaign listens, and how the board reaches it. `{port}` is the port it got.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    pub server_url: String,
}

fn default_baud() -> u32 {
    115_200
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

impl HardwareFile {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let file: Self = toml::from_str(&text)
            .with_context(|| format!("{} does not describe a board", path.display()))?;
        file.kind()?;
        if !file.login.len().is_multiple_of(2) {
            bail!(
                "login in {} takes pairs: what to wait for, what to type",
                path.display()
            );
        }
        Ok(file)
    }

    /// The emulated board it is like.
    pub fn kind(&self) -> Result<Kind> {
        Kind::named(&self.kind).with_context(|| {
            format!(
                "kind is one of {}, not {}",
                Kind::ALL.map(Kind::name).join(", "),
                self.kind
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_described_by_a_few_lines() -> Result<()> {
        let folder = ambidex_harness::Scratch::new("hardware-file")?;
        let path = folder.join("desk.toml");
        let lines = "name = \"desk\"\nkind = \"aarch64-uboot\"\nport = \"/dev/ttyUSB0\"\n\
            power_on = \"relay 1\"\npower_off = \"relay 0\"\nserver_url = \"http://192.0.2.1:{port}\"\n";
        std::fs::write(&path, lines)?;
        let file = HardwareFile::read(&path)?;
        assert_eq!((file.baud, file.kind()?), (115_200, Kind::Aarch64Uboot));
        for wrong in ["login = [\"login:\"]\n", "speed = 1\n"] {
            std::fs::write(&path, format!("{lines}{wrong}"))?;
            assert!(HardwareFile::read(&path).is_err(), "{wrong}");
        }
        std::fs::write(&path, lines.replace("aarch64-uboot", "toaster"))?;
        let error = HardwareFile::read(&path).expect_err("no such kind");
        assert!(error.to_string().contains("x86_64-grub"), "{error}");
        Ok(())
    }
}
