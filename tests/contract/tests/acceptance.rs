//! Every row of the acceptance tables is proved by a test that exists and runs, or says why it is not.
//!
//! `acceptance.csv` holds the row (C: conventions, D: device authentication, I: inventory, U: users,
//! T: tenants, A: audit log, B: deployments, workflows and device connections) and the tests that prove it,
//! as `path::name` apart by spaces, or `not: ` and the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// How many rows each table has.
const TABLES: &[(char, usize)] = &[
    ('A', 6),
    ('B', 127),
    ('C', 16),
    ('D', 38),
    ('I', 31),
    ('T', 9),
    ('U', 20),
];

fn rows() -> Vec<(&'static str, &'static str)> {
    include_str!("../acceptance.csv")
        .lines()
        .skip(1)
        .map(|line| line.split_once(',').unwrap_or((line, "")))
        .collect()
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut wrong = Vec::new();
    for (row, proofs) in rows() {
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
    let rows = rows();
    let ids: BTreeSet<&str> = rows.iter().map(|(row, _)| *row).collect();
    assert_eq!(ids.len(), rows.len(), "a row stands there twice");
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    for id in ids {
        *counts.entry(id.chars().next().unwrap_or(' ')).or_default() += 1;
    }
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), TABLES);
}
