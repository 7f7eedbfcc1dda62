/// What went wrong, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DbError {
    /// A row with the same key exists. `constraint` names the columns (`table.column, …`).
    #[error("a row with the same {constraint} exists")]
    UniqueViolation {
        /// The columns or the index whose uniqueness would be broken.
        constraint: String,
    },
    /// Statement number `index` of a batch did not touch the expected number of rows; the whole batch
    /// was undone. Somebody else changed the row first.
    #[error("statement {index} of the batch did not meet its expectation")]
    Conflict {
        /// Position in the batch, from 0.
        index: usize,
    },
    /// A value that the database cannot store, whatever the state of the database: the fault of whoever
    /// sent the value.
    #[error("{0}")]
    Refused(&'static str),
    /// The engine cannot serve at the moment; the text names the cause and the remedy.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
    /// The file is damaged or is not a database.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// A mistake in a statement or an unexpected refusal of the engine.
    #[error("database statement failed: {0}")]
    Other(String),
}

impl DbError {
    /// Classifies an error of the embedded engine that happened while `doing`.
    pub(crate) fn sqlite(error: &rusqlite::Error, doing: &str) -> DbError {
        use rusqlite::ErrorCode as Code;
        let text = format!("{doing}: {error}");
        let Some(code) = error.sqlite_error_code() else {
            return DbError::Other(text);
        };
        match code {
            Code::ConstraintViolation => {
                let message = error.to_string();
                match message.strip_prefix("UNIQUE constraint failed: ") {
                    Some(columns) => DbError::UniqueViolation {
                        constraint: columns.to_owned(),
                    },
                    None => DbError::Other(text),
                }
            }
            Code::DatabaseCorrupt | Code::NotADatabase => {
                DbError::Corrupt(format!("{text}; restore the data directory from a backup"))
            }
            Code::DiskFull => DbError::Unavailable(format!(
                "{text}; free space on the disk of the data directory"
            )),
            Code::CannotOpen | Code::PermissionDenied | Code::ReadOnly => {
                DbError::Unavailable(format!(
                    "{text}; check that the data directory exists and belongs to the user of the server"
                ))
            }
            Code::DatabaseBusy | Code::DatabaseLocked => {
                DbError::Unavailable(format!("{text}; another process holds the database locked"))
            }
            Code::SystemIoFailure | Code::OutOfMemory | Code::FileLockingProtocolFailed => {
                DbError::Unavailable(text)
            }
            _ => DbError::Other(text),
        }
    }
}
