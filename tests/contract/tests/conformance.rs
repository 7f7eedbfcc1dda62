//! The conformance table of the README says what these tests check.

use std::collections::BTreeMap;

use ambidex_test_contract::rows;

const README: &str = include_str!("../../../README.md");

/// A line for each service of the specification. That every operation exists with every documented status
/// is what `listed.rs` and `routed.rs` check; that each is tried, what `operations/` ends with.
fn table() -> String {
    let mut services: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let rows = rows();
    let mut all = (0, 0);
    for row in &rows {
        for (operations, statuses) in [services.entry(&row.service).or_default(), &mut all] {
            *operations += 1;
            *statuses += row.statuses.len();
        }
    }
    let line = |name: &str, (operations, statuses): (usize, usize)| {
        format!("| {name} | {operations} | {operations} | {operations} | {statuses} |\n")
    };
    let mut table = String::from(
        "| service of the specification | operations | implemented | tested | statuses documented |\n\
         |---|---|---|---|---|\n",
    );
    for (name, counts) in services {
        table += &line(name, counts);
    }
    table += &line("**all**", all);
    table
}

#[test]
fn the_readme_tells_the_conformance() {
    let table = table();
    assert!(README.contains(&table), "README.md needs:\n{table}");
}
