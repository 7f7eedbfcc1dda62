//! The agent for other architectures, run under emulation.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{binaries, child, skip};

/// An architecture that the agent is built for besides x86-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Aarch64,
    /// 32 bits, with hardware floating point.
    Armv7,
}

/// A built agent and what runs it here.
#[derive(Debug, Clone)]
pub struct ForeignAgent {
    pub emulator: PathBuf,
    pub agent: PathBuf,
}

impl Architecture {
    /// What `agent/cross` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "armv7",
        }
    }

    /// Compiler, header of the C library, emulator, and the Debian packages they come from.
    fn needed(self) -> [(&'static str, &'static str); 3] {
        match self {
            Self::Aarch64 => [
                ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
                (
                    "/usr/aarch64-linux-gnu/include/stdio.h",
                    "libc6-dev-arm64-cross",
                ),
                ("qemu-aarch64-static", "qemu-user-static"),
            ],
            Self::Armv7 => [
                ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"),
                (
                    "/usr/arm-linux-gnueabihf/include/stdio.h",
                    "libc6-dev-armhf-cross",
                ),
                ("qemu-arm-static", "qemu-user-static"),
            ],
        }
    }

    /// Builds the agent with the `dev` profile, which is quick. `None` after a loud skip when compiler, library or
    /// emulator cannot be had.
    pub async fn agent_or_skip(self) -> Result<Option<ForeignAgent>> {
        let present = |tool: &str| match tool.starts_with('/') {
            true => Path::new(tool).exists(),
            false => binaries::find_tool(tool).is_some(),
        };
        let needed = self.needed();
        let missing: Vec<&str> = needed
            .iter()
            .filter(|(tool, _)| !present(tool))
            .map(|&(_, package)| package)
            .collect();
        if !missing.is_empty() {
            skip(&format!(
                "the agent for {} needs the Debian packages {}",
                self.name(),
                missing.join(" ")
            ));
            return Ok(None);
        }
        if let Err(error) = child::run(script("toolchain").arg(self.name())).await {
            skip(&format!("no compiler for {}: {error:#}", self.name()));
            return Ok(None);
        }
        let built = child::run(
            script("build")
                .arg(self.name())
                .env("AMBIDEX_BOARD_AGENT_PROFILE", "dev"),
        )
        .await?;
        let [_, _, (emulator, _)] = needed;
        Ok(Some(ForeignAgent {
            emulator: emulator.into(),
            agent: built.trim().into(),
        }))
    }
}

fn script(name: &str) -> tokio::process::Command {
    child::command(binaries::repository().join("agent/cross").join(name))
}
