//! Results of a campaign: one record a board and flow, in a file and as a table.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::campaign::POWER_CUTS;
use crate::flows;

const BEGIN: &str = "<!-- campaign: written by cargo xtask hil --write-table -->";
const END: &str = "<!-- campaign: end -->";

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Passed,
    Failed,
    /// The board cannot have it.
    LeftOut,
}

/// The end of a flow with what is to be said about it.
#[derive(Debug, Clone)]
pub struct Outcome {
    verdict: Verdict,
    detail: String,
}

impl Outcome {
    pub fn passed(detail: &str) -> Self {
        Self {
            verdict: Verdict::Passed,
            detail: detail.to_owned(),
        }
    }

    pub fn failed(error: anyhow::Error) -> Self {
        Self {
            verdict: Verdict::Failed,
            detail: format!("{error:#}"),
        }
    }

    pub fn left_out(reason: &str) -> Self {
        Self {
            verdict: Verdict::LeftOut,
            detail: reason.to_owned(),
        }
    }
}

/// One flow on one board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub board: String,
    pub flow: String,
    pub seconds: f64,
    pub verdict: Verdict,
    pub detail: String,
}

impl Record {
    pub fn new(board: &str, flow: &str, seconds: f64, outcome: Outcome) -> Self {
        Self {
            board: board.to_owned(),
            flow: flow.to_owned(),
            seconds: (seconds * 10.0).round() / 10.0,
            verdict: outcome.verdict,
            detail: outcome.detail,
        }
    }

    fn cell(&self) -> String {
        match self.verdict {
            Verdict::Passed => format!("passed, {:.0} s", self.seconds),
            Verdict::Failed => "**failed**".to_owned(),
            Verdict::LeftOut => "-".to_owned(),
        }
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = match self.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::LeftOut => "left out",
        };
        write!(f, "{}: {verdict} after {:.1} s", self.flow, self.seconds)?;
        if !self.detail.is_empty() {
            write!(f, "; {}", self.detail)?;
        }
        Ok(())
    }
}

/// Reads the results file; none is no results.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} holds no results: remove it", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Puts new results in the place of older ones of the same board and flow. Other campaigns may do so at the same time.
pub fn store(path: &Path, new: &[Record]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let lock = path.with_extension("lock");
    let _held = std::fs::File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .with_context(|| format!("locking {}", lock.display()))?;
    let mut all = read(path)?;
    all.retain(|old| {
        !new.iter()
            .any(|record| record.board == old.board && record.flow == old.flow)
    });
    all.extend_from_slice(new);
    let json = serde_json::to_string_pretty(&all).context("writing the results as JSON")?;
    std::fs::write(path, json + "\n").with_context(|| format!("writing {}", path.display()))
}

/// Flows down, boards across.
pub fn table(records: &[Record]) -> String {
    let mut boards: Vec<&str> = records.iter().map(|record| record.board.as_str()).collect();
    boards.sort_unstable();
    boards.dedup();
    let mut text = format!("| flow | {} |\n|---|", boards.join(" | "));
    text.push_str(&"---|".repeat(boards.len()));
    text.push('\n');
    let rows = flows::all().map(|flow| (flow.name, flow.about)).chain([(
        POWER_CUTS,
        "random power cuts from download to commit, on a disk that loses what was not flushed",
    )]);
    for (name, about) in rows {
        let _ = write!(text, "| `{name}`: {about} |");
        for board in &boards {
            let found = records
                .iter()
                .find(|record| record.board == *board && record.flow == name);
            let cell = found.map_or_else(|| "not run".to_owned(), Record::cell);
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    let cuts = records.iter().filter(|record| record.flow == POWER_CUTS);
    for record in cuts {
        let _ = write!(text, "\n{}: {}.\n", record.board, record.detail);
    }
    text
}

/// Replaces the table between its two markers in a document.
pub fn write_table(document: &Path, records: &[Record]) -> Result<()> {
    if records.is_empty() {
        bail!("there are no results yet: run cargo xtask hil first");
    }
    let text = std::fs::read_to_string(document)
        .with_context(|| format!("reading {}", document.display()))?;
    let parts = text
        .split_once(BEGIN)
        .and_then(|(head, rest)| rest.split_once(END).map(|(_, tail)| (head, tail)));
    let Some((head, tail)) = parts else {
        bail!(
            "{} has no place for the table: the lines {BEGIN} and {END}",
            document.display()
        );
    };
    let text = format!("{head}{BEGIN}\n{}{END}{tail}", table(records));
    std::fs::write(document, text).with_context(|| format!("writing {}", document.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(board: &str, flow: &str, outcome: Outcome) -> Record {
        Record::new(board, flow, 12.34, outcome)
    }

    #[test]
    fn results_replace_older_ones_and_become_a_table() -> Result<()> {
        let folder = ambidex_harness::Scratch::new("results")?;
        let file = folder.join("deep/results.json");
        let failed = Outcome::failed(anyhow::anyhow!("no"));
        store(
            &file,
            &[
                record("b", "commit", failed),
                record("a", "commit", Outcome::passed("")),
            ],
        )?;
        store(&file, &[record("b", "commit", Outcome::left_out("why"))])?;
        let records = read(&file)?;
        assert_eq!(records.len(), 2);

        let document = folder.join("README.md");
        std::fs::write(&document, format!("head\n{BEGIN}\nSTALE\n{END}\ntail\n"))?;
        write_table(&document, &records)?;
        let text = std::fs::read_to_string(&document)?;
        assert!(
            text.starts_with("head\n") && text.ends_with("\ntail\n"),
            "{text}"
        );
        assert!(
            text.contains("| flow | a | b |") && !text.contains("STALE"),
            "{text}"
        );
        assert!(
            text.contains("committed, and stays | passed, 12 s | - |"),
            "{text}"
        );
        Ok(())
    }
}
