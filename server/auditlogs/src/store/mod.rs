//! Statements and row mapping; nothing else.

pub(crate) mod event;

use ambidex_db::Migration;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "init",
    sql: include_str!("migrations/0001_init.sql"),
}];
