//! Statements and row mapping; nothing else.

pub(crate) mod device;
pub(crate) mod instance;
pub(crate) mod recording;
pub(crate) mod session;
pub(crate) mod tenant;

use ambidex_db::Migration;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "init",
    sql: include_str!("migrations/0001_init.sql"),
}];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn point_reads_search_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        db.migrate("deviceconnect", MIGRATIONS).unwrap();
        for sql in [device::POINTS, session::POINTS].concat() {
            ambidex_testdb::assert_searches(&db, sql);
        }
    }
}
