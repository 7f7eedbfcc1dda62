//! Long lists as JSON, read and sent a stretch at a time: a million rows are never in memory.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use crate::error::Error;

/// Rows that are read at a time.
pub const STRETCH_ROWS: usize = 5_000;

/// What comes next of a list.
enum Next {
    /// The first bracket and these rows.
    First,
    /// The rows after this key.
    After(String),
    End,
}

/// A JSON array of all rows. `first` are the rows that were read already, so that an error of the first
/// read is answered as such; `fetch` reads those after a key. A later error cuts the answer off.
pub fn array<T, F, Fut>(first: Vec<T>, key: fn(&T) -> &str, fetch: F) -> Response
where
    T: Serialize + Send + 'static,
    F: Fn(String) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Vec<T>, Error>> + Send,
{
    let next_of = move |rows: &[T]| match rows.last() {
        Some(last) if rows.len() == STRETCH_ROWS => Next::After(key(last).to_owned()),
        _ => Next::End,
    };
    let start = (Next::First, first, fetch);
    let pieces = stream::try_unfold(start, move |(next, first, fetch)| async move {
        let (rows, begins) = match next {
            Next::First => (first, true),
            Next::After(after) => (fetch(after).await?, false),
            Next::End => return Ok::<_, Error>(None),
        };
        let next = next_of(&rows);
        let mut piece = Vec::new();
        if begins {
            piece.push(b'[');
        }
        for (index, row) in rows.iter().enumerate() {
            if !begins || index > 0 {
                piece.push(b',');
            }
            serde_json::to_writer(&mut piece, row)
                .map_err(|error| Error::Internal(format!("a row as JSON: {error}")))?;
        }
        if matches!(next, Next::End) {
            piece.push(b']');
        }
        Ok(Some((Bytes::from(piece), (next, Vec::new(), fetch))))
    });
    (
        [(CONTENT_TYPE, "application/json")],
        Body::from_stream(pieces),
    )
        .into_response()
}
