//! Why an exchange with a server failed, sorted by what the caller can do about it.

use std::{fmt, time::Duration};

/// What the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkErrorKind {
    /// Try again later; after at least this long if the server said so.
    Transient { retry_after: Option<Duration> },
    /// The server does not (yet) accept this device.
    Unauthorized,
    /// The deployment was aborted on the server (409).
    Aborted,
    /// What was asked for is not there any more (404, 410), or the link has expired (403).
    Gone,
    /// The server has understood and refused; trying again as it is cannot help.
    Permanent,
    /// The caller cancelled.
    Cancelled,
}

/// An exchange that failed. The text says what was tried, with whom, what happened and, where it is
/// known, the remedy.
#[derive(Debug, Clone)]
pub struct LinkError {
    kind: LinkErrorKind,
    text: String,
}

impl LinkError {
    pub(crate) fn new(kind: LinkErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    pub(crate) fn transient(text: impl Into<String>) -> Self {
        Self::new(LinkErrorKind::Transient { retry_after: None }, text)
    }

    pub(crate) fn permanent(text: impl Into<String>) -> Self {
        Self::new(LinkErrorKind::Permanent, text)
    }

    #[must_use]
    pub const fn kind(&self) -> LinkErrorKind {
        self.kind
    }

    /// How long the server asked to wait, if it did.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.kind {
            LinkErrorKind::Transient { retry_after } => retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for LinkError {}
