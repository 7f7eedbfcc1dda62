//! A board under test: power, a console with a root shell, storage. One interface to an emulated board and to one behind
//! a serial port, so that the same flows run on both.

mod file;
mod serial;

use std::time::Duration;

use ambidex_harness::board::{BOOT_LIMIT, Board, Booted, Console, Loss, Settings};
use anyhow::{Context, Result, bail};

pub use file::HardwareFile;
pub use serial::SerialBoard;

/// Checksums of a whole slot take minutes on an emulated board beside others.
const COMMAND_LIMIT: Duration = Duration::from_secs(900);

/// The board. Dropping it switches it off.
#[derive(Debug)]
pub enum Dut {
    Emulated(Box<Board>),
    Hardware(Box<SerialBoard>),
}

impl Dut {
    /// The emulated board, whose disk can be looked at from outside.
    pub fn emulated(&self) -> Option<&Board> {
        match self {
            Self::Emulated(board) => Some(board),
            Self::Hardware(_) => None,
        }
    }

    /// The same, for flows that ask for it ([`crate::flows::Need`]).
    pub fn inside(&self) -> Result<&Board> {
        self.emulated()
            .context("the storage of this board cannot be looked at from outside")
    }

    /// Hands in the agent's settings; the next power on takes them.
    pub fn set_settings(&mut self, settings: Settings) -> Result<()> {
        match self {
            Self::Emulated(board) => board.set_settings(settings),
            Self::Hardware(board) => board.set_settings(&settings),
        }
    }

    pub async fn power_on(&mut self) -> Result<()> {
        match self {
            Self::Emulated(board) => board.power_on().await,
            Self::Hardware(board) => board.power_on().await,
        }
    }

    /// Pulls the plug. On a disk with a volatile cache the result says what was lost.
    pub async fn power_cut(&mut self) -> Result<Option<Loss>> {
        match self {
            Self::Emulated(board) => board.power_cut().await,
            Self::Hardware(board) => board.power_off().await.map(|()| None),
        }
    }

    fn console(&mut self) -> Result<&mut Console> {
        match self {
            Self::Emulated(board) => board.console(),
            Self::Hardware(board) => board.console(),
        }
    }

    /// Everything the console has shown, over all boots.
    pub fn console_log(&self) -> String {
        match self {
            Self::Emulated(board) => board.console_log(),
            Self::Hardware(board) => board.console_log(),
        }
    }

    /// Waits for the line that ends a boot, and returns at once: the agent may not have started yet.
    pub async fn wait_boot_marker(&mut self) -> Result<Booted> {
        self.console()?
            .booted(BOOT_LIMIT)
            .await
            .context("the board does not boot")
    }

    /// Waits until user space is up and the shell answers.
    pub async fn wait_boot(&mut self) -> Result<Booted> {
        let booted = self.wait_boot_marker().await?;
        self.console_settles().await?;
        Ok(booted)
    }

    /// Power on and [`Dut::wait_boot`].
    pub async fn boot(&mut self) -> Result<Booted> {
        self.power_on().await?;
        self.wait_boot().await
    }

    /// Waits until the shell answers, whether or not the board has rebooted in the meantime.
    pub async fn console_settles(&mut self) -> Result<()> {
        if let Self::Hardware(board) = self {
            board.log_in().await?;
        }
        self.console()?.shell(BOOT_LIMIT).await
    }

    /// Waits for a line with `text` on the console.
    pub async fn wait_console(&mut self, text: &str, limit: Duration) -> Result<String> {
        self.console()?.line_with(text, limit).await
    }

    /// Runs a shell command that must succeed, as root, and returns what it prints.
    pub async fn output(&mut self, command: &str) -> Result<String> {
        let output = self.console()?.run(command, COMMAND_LIMIT).await?;
        if output.code != 0 {
            bail!(
                "`{command}` on the board ended with {}: {}",
                output.code,
                output.text
            );
        }
        Ok(output.text)
    }

    /// Slots the boot loader has started, over all boots, for instance `[2, 3, 2]`.
    pub fn slots_started(&self) -> Vec<u8> {
        self.console_log()
            .split("ambidex: booting slot ")
            .skip(1)
            .filter_map(|rest| {
                rest.bytes()
                    .next()
                    .filter(u8::is_ascii_digit)
                    .map(|digit| digit - b'0')
            })
            .collect()
    }
}
