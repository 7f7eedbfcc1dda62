/// What went wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such object.
    #[error("object {0} does not exist")]
    NotFound(String),
    /// The wanted range lies outside of the object.
    #[error("the range starts at {start}, but the object has {size} bytes")]
    Range {
        /// First byte wanted.
        start: u64,
        /// Size of the object.
        size: u64,
    },
    /// The key has a form that no object can have.
    #[error("unusable object key {0:?}")]
    Key(String),
    /// The address or an option of the store is wrong; the text says which.
    #[error("artifact storage: {0}")]
    Config(String),
    /// The store cannot do it at the moment; the text names the place, the cause and the remedy.
    #[error("artifact storage: {0}")]
    Unavailable(String),
}

/// Why a link does not open anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// A part of it is missing or has the wrong form.
    #[error("invalid request parameters: {0}")]
    Malformed(&'static str),
    /// Its time is over.
    #[error("URL expired")]
    Expired,
    /// It was not made by this server, or was changed.
    #[error("signature invalid")]
    Signature,
}
