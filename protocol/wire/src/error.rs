//! The error body of every operation.

use serde::{Deserialize, Serialize};

/// `{"error": "...", "request_id": "..."}`, the body of every failed call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed, for people.
    pub error: String,
    /// The `X-MEN-RequestID` of the failed call, for finding it in the server's log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}
