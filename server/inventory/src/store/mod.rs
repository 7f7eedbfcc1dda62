//! Everything of the inventory that is SQL: statements and row mapping, no decisions. One text for both engines.

pub mod device;
pub mod filter;
pub mod group;
pub mod selection;
pub mod shape;
pub mod tenant;

use ambidex_db::Migration;

/// The schema of this service.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "init",
    sql: include_str!("migrations/0001_init.sql"),
}];

/// `$first, $second, …`: `count` placeholders from number `first` on.
fn placeholders(first: usize, count: usize) -> String {
    let mut list = String::with_capacity(count * 5);
    for number in first..first + count {
        if number > first {
            list.push_str(", ");
        }
        list.push('$');
        list.push_str(&number.to_string());
    }
    list
}
