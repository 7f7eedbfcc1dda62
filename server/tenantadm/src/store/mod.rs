//! Statements and row mapping; nothing else.

pub(crate) mod first_user;
pub(crate) mod tenant;
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
        name: "accounts",
        sql: include_str!("migrations/0002_accounts.sql"),
    },
];

/// A pattern for `LIKE … ESCAPE '\'` that finds `text` anywhere.
pub(crate) fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn point_reads_search_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        db.migrate("tenantadm", MIGRATIONS).unwrap();
        for sql in [tenant::POINTS, first_user::POINTS].concat() {
            ambidex_testdb::assert_searches(&db, sql);
        }
    }
}
