//! A program of the board's vendor as boot loader, for boards whose boot loader only the vendor's tools
//! reach. The protocol is told in `board-support/script/README.md`.
//!
//! Strict on purpose: a wrong word is an error that names it, and what a verb claims to have done is
//! asked back.

use std::path::PathBuf;
use std::time::Duration;

use ambidex_platform::fs::is_executable_file;
use ambidex_platform::process::{self, Command};

use super::{Board, BootConfig, BootError, Finding, Side, SlotLoader, State};

const NAME: &str = "script of the vendor";
const TIME_MAX: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 4096;
const PROTOCOL: &str = "1";

/// The program.
#[derive(Debug, Clone)]
pub struct Script {
    program: PathBuf,
    time_max: Duration,
}

/// What `state` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    /// `None` when the boot loader does not tell.
    running: Option<Side>,
    next: Side,
    trial: bool,
}

fn side(text: &str) -> Option<Side> {
    Side::BOTH.into_iter().find(|side| side.letter() == text)
}

const KEYS: [&str; 4] = ["protocol", "running", "next", "trial"];

impl Answer {
    fn parse(text: &str) -> Result<Self, String> {
        let mut values: [Option<&str>; 4] = [None; 4];
        for line in text.lines() {
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| format!("the line {line:?} is not KEY=VALUE"))?;
            let at = KEYS
                .iter()
                .position(|known| *known == key)
                .ok_or_else(|| format!("{key:?} is none of {}", KEYS.join(", ")))?;
            if values[at].replace(value).is_some() {
                return Err(format!("{key} stands there twice"));
            }
        }
        let value = |at: usize| values[at].ok_or_else(|| format!("{} is missing", KEYS[at]));
        let wrong =
            |at: usize, text: &str, known: &str| format!("{}={text:?} must be {known}", KEYS[at]);
        if value(0)? != PROTOCOL {
            return Err(wrong(0, value(0)?, PROTOCOL));
        }
        let running = match value(1)? {
            "unknown" => None,
            text => Some(side(text).ok_or_else(|| wrong(1, text, "a, b or unknown"))?),
        };
        let next =
            side(value(2)?).ok_or_else(|| wrong(2, values[2].unwrap_or_default(), "a or b"))?;
        let trial = match value(3)? {
            "yes" => true,
            "no" => false,
            text => return Err(wrong(3, text, "yes or no")),
        };
        Ok(Self {
            running,
            next,
            trial,
        })
    }
}

impl Script {
    /// Names the program; does not call it.
    ///
    /// # Errors
    /// When none is configured.
    pub fn open(config: &BootConfig) -> Result<Self, BootError> {
        let program = config.script.clone().ok_or_else(|| {
            BootError::Configuration(
                "[boot] kind is script, but no program is named: set [boot] script".to_owned(),
            )
        })?;
        Ok(Self {
            program,
            time_max: TIME_MAX,
        })
    }

    /// Runs one verb and hands back what it printed.
    async fn run(&self, args: &[&str]) -> Result<String, BootError> {
        let line = format!("{} {}", self.program.display(), args.join(" "));
        let mut command = Command::new(&self.program, self.time_max);
        command.args = args.iter().map(Into::into).collect();
        let mut last = String::new();
        let output = process::capture(&command, ANSWER_BYTES_MAX, &mut |_, text| {
            log::info!("{line}: {text}");
            text.clone_into(&mut last);
        })
        .await
        .map_err(|error| BootError::Tool(error.to_string()))?;
        if !output.exit.success() {
            let said = if last.is_empty() {
                String::new()
            } else {
                format!(": {last}")
            };
            return Err(BootError::Tool(format!("{line} {}{said}", output.exit)));
        }
        if output.overflowed {
            return Err(BootError::Tool(format!(
                "{line} printed more than {ANSWER_BYTES_MAX} bytes"
            )));
        }
        String::from_utf8(output.stdout)
            .map_err(|_| BootError::Tool(format!("{line} printed something that is no text")))
    }

    async fn answer(&self) -> Result<Answer, BootError> {
        let text = self.run(&["state"]).await?;
        Answer::parse(&text).map_err(|problem| {
            BootError::Tool(format!(
                "{} state gave a wrong answer: {problem}",
                self.program.display()
            ))
        })
    }

    /// Runs a verb that changes something, and asks whether it has.
    async fn change(&self, verb: &str, side: Side, trial: bool) -> Result<(), BootError> {
        let printed = self.run(&[verb, side.letter()]).await?;
        for line in printed.lines() {
            log::info!("{} {verb}: {line}", self.program.display());
        }
        let answer = self.answer().await?;
        if answer.next == side && answer.trial == trial {
            return Ok(());
        }
        Err(BootError::Tool(format!(
            "{} {verb} {} succeeded, but state then says next={} and trial={}",
            self.program.display(),
            side.letter(),
            answer.next.letter(),
            if answer.trial { "yes" } else { "no" }
        )))
    }
}

impl SlotLoader for Script {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn state(&self, running: Option<Side>) -> Result<State, BootError> {
        let answer = self.answer().await?;
        let told = answer.running.map_or("unknown", Side::letter);
        let contradiction = match (answer.running, running) {
            (Some(told), Some(seen)) => told != seen,
            _ => false,
        };
        Ok(State {
            // to be on the wrong slot is no reason for a trial, but one not to begin anything
            side: (!contradiction).then_some(answer.next),
            trial: answer.trial,
            says: format!(
                "running={told}, next={}, trial={}",
                answer.next.letter(),
                if answer.trial { "yes" } else { "no" }
            ),
            obstacle: None,
        })
    }

    async fn try_next(&self, side: Side) -> Result<(), BootError> {
        self.change("set-try", side, true).await
    }

    async fn commit(&self, side: Side) -> Result<(), BootError> {
        self.change("commit", side, false).await
    }

    async fn go_back(&self, side: Side) -> Result<(), BootError> {
        self.change("rollback", side, false).await
    }

    async fn check(&self, _board: &Board<'_>) -> Vec<Finding> {
        let shown = self.program.display();
        if !self.program.is_absolute() {
            return vec![Finding::bad(format!(
                "[boot] script {shown} is no absolute path"
            ))];
        }
        if !is_executable_file(&self.program) {
            return vec![Finding::bad(format!(
                "the script {shown} does not exist or is not executable"
            ))];
        }
        match self.answer().await {
            Err(error) => vec![Finding::bad(error.to_string())],
            Ok(answer) => vec![Finding::good(format!(
                "the script {shown} answers: slot {} runs, slot {} is next{}",
                answer.running.map_or("(unknown)", Side::letter),
                answer.next.letter(),
                if answer.trial { ", on trial" } else { "" }
            ))],
        }
    }
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
