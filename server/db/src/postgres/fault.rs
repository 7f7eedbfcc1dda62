//! What went wrong on the server or on the way to it.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use crate::DbError;

/// An error and what it means for the connection it happened on.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) error: DbError,
    pub(super) effect: Effect,
}

/// What to do about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The statement was refused; the connection is good.
    Statement,
    /// The connection is gone; another one may work.
    Lost,
    /// No answer in time: the connection is not to be used again, and another would fare no better.
    Silent,
    /// The server undid the transaction for reasons that pass: once more.
    Again,
    /// A prepared statement has become stale: once more with newly prepared ones.
    Stale,
}

impl From<DbError> for Fault {
    fn from(error: DbError) -> Fault {
        Fault {
            error,
            effect: Effect::Statement,
        }
    }
}

impl Fault {
    pub(super) fn lost(text: impl Into<String>) -> Fault {
        Fault {
            error: DbError::Unavailable(text.into()),
            effect: Effect::Lost,
        }
    }

    pub(super) fn silent(label: &str, limit: std::time::Duration) -> Fault {
        Fault {
            error: DbError::Unavailable(format!(
                "{label} does not answer for {} seconds",
                limit.as_secs()
            )),
            effect: Effect::Silent,
        }
    }

    /// Classifies an error of the driver that happened while `doing`.
    pub(super) fn of(error: &tokio_postgres::Error, doing: &str) -> Fault {
        let Some(told) = error.as_db_error() else {
            return match error.source() {
                // A parameter that does not encode, a row that does not decode: our mistake.
                Some(cause)
                    if !error.is_closed() && cause.is::<tokio_postgres::types::WrongType>() =>
                {
                    DbError::Other(format!("{doing}: {cause}")).into()
                }
                _ if error.to_string().starts_with("error serializing") => {
                    DbError::Other(format!("{doing}: {}", chain(error))).into()
                }
                _ => Fault::lost(format!(
                    "the connection to PostgreSQL was lost while {doing}: {}",
                    chain(error)
                )),
            };
        };
        let text = format!("{doing}: {} ({})", told.message(), told.code().code());
        let unavailable = |remedy: &str| {
            DbError::Unavailable(if remedy.is_empty() {
                text.clone()
            } else {
                format!("{text}; {remedy}")
            })
        };
        let code = told.code();
        if *code == SqlState::UNIQUE_VIOLATION {
            return DbError::UniqueViolation {
                constraint: violated(told),
            }
            .into();
        }
        let (error, effect) = match code.code() {
            "40001" | "40P01" => (unavailable("try again"), Effect::Again),
            "26000" | "0A000" => (DbError::Other(text), Effect::Stale),
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => (
                unavailable("the server stops or restarts; try again"),
                Effect::Lost,
            ),
            "57014" => (
                unavailable("the statement took too long"),
                Effect::Statement,
            ),
            "55P03" => (
                unavailable("another instance has been writing for too long"),
                Effect::Statement,
            ),
            "25006" => (
                unavailable("the server takes no writes: it is a standby, or set to read-only"),
                Effect::Lost,
            ),
            "42501" => (
                unavailable(
                    "the user lacks a privilege: make it the owner of the database (ALTER DATABASE … OWNER TO …)",
                ),
                Effect::Statement,
            ),
            "53100" => (
                unavailable("free space on the disk of PostgreSQL"),
                Effect::Statement,
            ),
            "22021" | "22P05" => (
                DbError::Refused("a text contains characters that the database cannot store"),
                Effect::Statement,
            ),
            "XX001" | "XX002" => (DbError::Corrupt(text), Effect::Statement),
            class if class.starts_with("08") => (unavailable(""), Effect::Lost),
            class if class.starts_with("53") || class.starts_with("58") => {
                (unavailable(""), Effect::Statement)
            }
            _ => (DbError::Other(text), Effect::Statement),
        };
        Fault { error, effect }
    }

    /// An error while a connection is made to the server `label`.
    pub(super) fn connecting(error: &tokio_postgres::Error, label: &str) -> Fault {
        let told = error.as_db_error();
        let remedy = match told.map(|told| told.code().code()) {
            Some("3D000") => "create the database (createdb)",
            Some("28P01" | "28000") => "check user and password in --database-url and pg_hba.conf",
            Some("53300") => "raise max_connections of the server",
            Some("57P03") => "the server is starting or stopping",
            Some(_) => "see the log of PostgreSQL",
            None => "check that PostgreSQL runs and that --database-url names it",
        };
        let reason = told.map_or_else(|| chain(error), |told| told.message().to_owned());
        Fault::lost(format!("cannot connect to {label}: {reason}; {remedy}"))
    }
}

/// An error with its causes; the driver leaves those out of its own text.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// `table.column, table.column` as the embedded engine names it. The server tells the columns in a
/// sentence that may be translated, `Key (a, b)=(…) already exists`: only the parentheses are fixed.
fn violated(told: &tokio_postgres::error::DbError) -> String {
    let columns = told
        .detail()
        .and_then(|detail| detail.split_once('('))
        .and_then(|(_, rest)| rest.split_once(")=("))
        .map(|(columns, _)| columns);
    match (told.table(), columns) {
        (Some(table), Some(columns)) => columns
            .split(", ")
            .map(|column| format!("{table}.{}", column.trim_matches('"')))
            .collect::<Vec<_>>()
            .join(", "),
        _ => format!("index '{}'", told.constraint().unwrap_or("unknown")),
    }
}
