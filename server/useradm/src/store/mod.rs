//! Statements and row mapping; nothing else.

pub(crate) mod settings;
pub(crate) mod tenant;
pub(crate) mod token;
pub(crate) mod user;

use ambidex_db::Migration;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "init",
    sql: include_str!("migrations/0001_init.sql"),
}];
