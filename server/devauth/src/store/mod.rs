//! Everything of device authentication that is SQL: statements and row mapping, no decisions.

pub mod auth_set;
pub mod device;
pub mod handover;
pub mod limit;
pub mod tally;
pub mod tenant;
pub mod token;

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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    /// Point reads run on the threads that serve requests: none of them may go through a table.
    #[test]
    fn point_reads_search_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let db = ambidex_testdb::open(dir.path());
        db.migrate("devauth", MIGRATIONS).unwrap();
        for sql in [
            device::BY_ID,
            device::BY_IDENTITY,
            auth_set::BY_ID,
            auth_set::BY_KEY,
            auth_set::OF_DEVICE,
            token::BY_ID,
            limit::BY_NAME,
            tally::OF_STATUS,
            tally::OF_ALL,
        ] {
            ambidex_testdb::assert_searches(&db, sql);
        }
    }
}
