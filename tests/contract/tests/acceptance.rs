//! Every row of the acceptance tables is proved by a test that exists and runs, or says why it is not.
//!
//! A table holds the row and the tests that prove it, as `path::name` apart by spaces, or `not: ` and the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

struct Table {
    rows: &'static str,
    /// The letters with what they stand for and how many rows they have.
    groups: &'static [(char, &'static str, usize)],
}

const SERVER: Table = Table {
    rows: include_str!("../acceptance.csv"),
    groups: &[
        ('A', "audit log", 6),
        ('B', "deployments, workflows, device connections", 127),
        ('C', "conventions", 16),
        ('D', "device authentication", 38),
        ('I', "inventory", 31),
        ('T', "tenants", 9),
        ('U', "users", 20),
    ],
};

const AGENT: Table = Table {
    rows: include_str!("../../../agent/acceptance.csv"),
    groups: &[
        ('A', "identity, keys, login, TLS, proxies", 15),
        ('B', "A/B root file systems and boot loaders", 9),
        ('C', "standalone verbs", 6),
        ('D', "downloads", 5),
        ('F', "artifacts", 7),
        ('G', "message bus, stopping, the reference's server", 4),
        ('I', "inventory", 3),
        ('M', "update modules", 10),
        ('P', "polls", 9),
        ('R', "deaths and power cuts", 10),
        ('S', "the course of a deployment", 18),
        ('T', "state scripts", 6),
    ],
};

const AGENT_README: &str = include_str!("../../../agent/README.md");

impl Table {
    fn rows(&self) -> Vec<(&'static str, &'static str)> {
        self.rows
            .lines()
            .skip(1)
            .map(|line| line.split_once(',').unwrap_or((line, "")))
            .collect()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn letter(row: &str) -> char {
    row.chars().next().unwrap_or(' ')
}

/// Why a proof is none; `None` when it is one.
fn fault(root: &Path, proof: &str) -> Option<String> {
    let Some((file, name)) = proof.split_once("::") else {
        return Some(format!("{proof:?} is no path::name"));
    };
    let Ok(text) = fs::read_to_string(root.join(file)) else {
        return Some(format!("there is no file {file}"));
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declared = |line: &&str| line.contains(&format!("fn {name}("));
    let Some(at) = lines.iter().position(declared) else {
        return Some(format!("{file} has no test {name}"));
    };
    let attributes = lines[..at].iter().rev();
    let attributes: Vec<&&str> = attributes
        .take_while(|line| line.starts_with('#'))
        .collect();
    let is = |what: &str| attributes.iter().any(|line| line.starts_with(what));
    if !is("#[test]") && !is("#[tokio::test") {
        return Some(format!("{name} in {file} is no test"));
    }
    is("#[ignore").then(|| format!("{name} in {file} does not run"))
}

#[test]
fn every_row_names_tests_that_run() {
    let root = root();
    let mut wrong = Vec::new();
    for (row, proofs) in [SERVER, AGENT].iter().flat_map(Table::rows) {
        if let Some(reason) = proofs.strip_prefix("not: ") {
            if reason.trim().is_empty() {
                wrong.push(format!("{row}: no reason"));
            }
            continue;
        }
        let proofs: Vec<&str> = proofs.split(' ').collect();
        let faults = proofs.iter().filter_map(|proof| fault(&root, proof));
        wrong.extend(faults.map(|fault| format!("{row}: {fault}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_row_is_there_once() {
    for table in [SERVER, AGENT] {
        let rows = table.rows();
        let ids: BTreeSet<&str> = rows.iter().map(|(row, _)| *row).collect();
        assert_eq!(ids.len(), rows.len(), "a row stands there twice");
        let mut counts: BTreeMap<char, usize> = BTreeMap::new();
        for id in ids {
            *counts.entry(letter(id)).or_default() += 1;
        }
        let expected = table
            .groups
            .iter()
            .map(|(letter, _, count)| (*letter, *count));
        assert_eq!(counts, expected.collect());
    }
}

/// A line for each letter: how many of its rows are proved.
fn summary(table: &Table) -> String {
    let mut proved: BTreeMap<char, usize> = BTreeMap::new();
    let is_proved = |(_, proof): &(&str, &str)| !proof.starts_with("not: ");
    for (row, _) in table.rows().into_iter().filter(is_proved) {
        *proved.entry(letter(row)).or_default() += 1;
    }
    let mut text = String::from("| rows | about | passing | of |\n|---|---|---|---|\n");
    let mut all = 0;
    for (letter, about, count) in table.groups {
        let passing = proved.get(letter).copied().unwrap_or_default();
        all += count;
        let _ = writeln!(text, "| {letter} | {about} | {passing} | {count} |");
    }
    let passing: usize = proved.values().sum();
    let _ = writeln!(text, "| **all** | | {passing} | {all} |");
    text
}

#[test]
fn the_readme_of_the_agent_tells_how_many_rows_pass() {
    let summary = summary(&AGENT);
    assert!(
        AGENT_README.contains(&summary),
        "agent/README.md needs:\n{summary}"
    );
}

/// Whatever the README calls cured names tests that run, too.
#[test]
fn the_weaknesses_that_the_readme_calls_cured_are_tested() {
    let root = root();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for line in AGENT_README.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, id, _, state, proof, _] = cells.as_slice() else {
            continue;
        };
        if !id.starts_with('W') {
            continue;
        }
        seen.insert((*id).to_owned());
        let proofs: Vec<&str> = proof
            .split('`')
            .filter(|part| part.contains("::"))
            .collect();
        if *state == "cured" && proofs.is_empty() {
            wrong.push(format!("{id}: no test"));
        }
        let faults = proofs.iter().filter_map(|proof| fault(&root, proof));
        wrong.extend(faults.map(|fault| format!("{id}: {fault}")));
    }
    let expected: BTreeSet<String> = (1..=30).map(|number| format!("W{number}")).collect();
    assert_eq!(seen, expected);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
