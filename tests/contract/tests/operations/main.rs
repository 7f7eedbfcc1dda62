//! Every documented operation with its success and each of its documented failures, over real HTTP against a
//! real server; every answer is held against the document. What only a broken server can answer (5xx) is
//! tried where servers are broken on purpose, the 401 of guarded operations in `guarded.rs`.

mod deployments;
mod devauth;
mod inventory;
mod records;
mod tenantadm;
mod useradm;

use ambidex_test_contract::World;

/// A test ends with it: nothing that the document promises of these services was left untried. `excused`
/// names what this world cannot show, each with its reason.
fn complete(world: &World, services: &[&str], excused: &[(&str, u16, &str)]) {
    let excused: Vec<(&str, u16)> = excused
        .iter()
        .map(|(operation, status, _)| (*operation, *status))
        .collect();
    let untried = world.untried(services, &excused);
    assert!(untried.is_empty(), "documented and not tried: {untried:#?}");
}
