//! No operation of the specification is missing from the document, and none of its statuses.

use ambidex_harness::flow;
use ambidex_test_contract::{World, rows};

/// Statuses of the specification that contradict another sentence of it, with the reason.
const CONTRADICTED: &[(&str, u16, &str)] = &[];

#[test]
fn every_row_of_the_specification_is_documented() {
    flow("listed", |scratch| async move {
        let world = World::start(&scratch, &[]).await?;
        let mut missing = Vec::new();
        let rows = rows();
        assert_eq!(rows.len(), 149);
        for row in &rows {
            let found = world.document.operations().find(|operation| {
                operation.number.as_deref() == Some(row.number.as_str())
                    && operation.method == row.method
                    && operation.path == row.path
            });
            let Some(operation) = found else {
                missing.push(format!("{} {} {}", row.number, row.method, row.path));
                continue;
            };
            for status in &row.statuses {
                let contradicted = CONTRADICTED
                    .iter()
                    .any(|(number, code, _)| *number == row.number && code == status);
                if !operation.statuses.contains(status) && !contradicted {
                    missing.push(format!("{} {status}", row.number));
                }
            }
        }
        assert!(missing.is_empty(), "not documented: {missing:#?}");
        Ok(())
    });
}
