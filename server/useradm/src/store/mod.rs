//! Statements and row mapping; nothing else.

pub(crate) mod role;
pub(crate) mod secret;
pub(crate) mod settings;
pub(crate) mod tenant;
pub(crate) mod token;
pub(crate) mod two_factor;
pub(crate) mod user;

use ambidex_db::Migration;

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "init",
        sql: include_str!("migrations/0001_init.sql"),
    },
    Migration {
        version: 2,
        name: "administration",
        sql: include_str!("migrations/0002_administration.sql"),
    },
];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn point_reads_search_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        db.migrate("useradm", MIGRATIONS).unwrap();
        let points = [
            user::POINTS,
            token::POINTS,
            settings::POINTS,
            role::POINTS,
            secret::POINTS,
        ];
        for sql in points.concat() {
            ambidex_testdb::assert_searches(&db, sql);
        }
    }
}
