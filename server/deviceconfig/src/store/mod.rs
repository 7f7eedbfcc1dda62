//! Statements and row mapping; nothing else.

pub(crate) mod device;

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
    fn statements_search_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        db.migrate("deviceconfig", MIGRATIONS).unwrap();
        for sql in device::POINTS {
            ambidex_testdb::assert_searches(&db, sql);
        }
    }
}
