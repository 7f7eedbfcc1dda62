//! Why an artifact cannot be read, written or signed.

use std::io;

use crate::digest::Sha256Digest;

/// Why reading, writing or signing stopped. [`Error::kind`] sorts the variants by what a caller
/// can do about them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input itself failed: the network broke, the disk gave an error. The artifact may be
    /// good; reading it again may help. The error is the one that the input returned.
    #[error("cannot read the artifact")]
    Source(#[source] io::Error),

    /// The output failed while writing or signing.
    #[error("cannot write the artifact")]
    Output(#[source] io::Error),

    /// A payload file failed while an artifact was written from it.
    #[error("cannot read the payload file {name:?}")]
    Payload {
        /// Name of the payload file.
        name: String,
        /// What its reader returned.
        #[source]
        source: io::Error,
    },

    /// The input ended too early.
    #[error(
        "the artifact is truncated: it ends at byte {offset}, inside {place}; copy or download it again"
    )]
    Truncated {
        /// The member being read.
        place: String,
        /// Bytes of the artifact that there are.
        offset: u64,
    },

    /// The bytes do not follow the format.
    #[error("not a valid artifact: {place}: {problem}")]
    Malformed {
        /// The member, and the entry in it where there is one.
        place: String,
        /// What is wrong with it.
        problem: String,
    },

    /// A digest differs from the manifest.
    #[error(
        "invalid checksum of {place}: the manifest says {expected}, the content has {actual}; the artifact is damaged, copy or download it again"
    )]
    Checksum {
        /// Manifest name of the content.
        place: String,
        /// What the manifest says.
        expected: Sha256Digest,
        /// What was read.
        actual: Sha256Digest,
    },

    /// A verification key is configured and the artifact has no signature.
    #[error(
        "missing signature: a verification key is configured, and the artifact is not signed; sign it with `ambidex artifact sign`"
    )]
    SignatureMissing,

    /// The signature fits none of the keys.
    #[error("invalid signature: {reason}")]
    SignatureInvalid {
        /// Why.
        reason: String,
    },

    /// A good artifact of a kind that this reader is not meant to take.
    #[error("{0}")]
    Unsupported(String),

    /// More than [`Limits`](crate::Limits) allows.
    #[error("{what} is {actual}, the limit is {limit}")]
    Limit {
        /// What is too large, with its unit.
        what: String,
        /// What the artifact has.
        actual: u64,
        /// What is allowed.
        limit: u64,
    },

    /// What was asked to be written is not permitted by the format.
    #[error("cannot write this artifact: {0}")]
    Specification(String),

    /// Signing failed.
    #[error("cannot sign the artifact: {0}")]
    Signing(String),

    /// An earlier call returned an error; the reader has no more to say.
    #[error("reading this artifact has already failed")]
    Failed,
}

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input failed: try again.
    Source,
    /// The output or a payload file failed.
    Output,
    /// The input ended early: the copy is incomplete.
    Truncated,
    /// Not an artifact, or a broken one.
    Invalid,
    /// The content does not have the digest of the manifest.
    Checksum,
    /// Unsigned or wrongly signed.
    Signature,
    /// A version or feature that is not taken here.
    Unsupported,
    /// Larger than permitted.
    Limit,
    /// A mistake of the caller.
    Usage,
}

impl Error {
    /// Sorts the error by what can be done about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Source(_) => ErrorKind::Source,
            Self::Output(_) | Self::Payload { .. } => ErrorKind::Output,
            Self::Truncated { .. } => ErrorKind::Truncated,
            Self::Malformed { .. } => ErrorKind::Invalid,
            Self::Checksum { .. } => ErrorKind::Checksum,
            Self::SignatureMissing | Self::SignatureInvalid { .. } => ErrorKind::Signature,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Limit { .. } => ErrorKind::Limit,
            Self::Specification(_) | Self::Signing(_) | Self::Failed => ErrorKind::Usage,
        }
    }

    pub(crate) fn malformed(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Malformed {
            place: place.into(),
            problem: problem.into(),
        }
    }

    pub(crate) fn limit(what: impl Into<String>, actual: u64, limit: u64) -> Self {
        Self::Limit {
            what: what.into(),
            actual,
            limit,
        }
    }
}

/// Fails when `actual` is over `limit`.
pub(crate) fn check_limit(what: &str, actual: u64, limit: u64) -> Result<(), Error> {
    if actual > limit {
        Err(Error::limit(what, actual, limit))
    } else {
        Ok(())
    }
}
