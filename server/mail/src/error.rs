/// Why a mail was not sent, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The server was not told of a mail server.
    #[error("mail is not configured: give the server --smtp-url")]
    NotConfigured,
    /// The mail server's URL is wrong; said at the start.
    #[error("{0}")]
    Setting(String),
    /// An address or the subject cannot be put into a mail; sending it again cannot help.
    #[error("{0}")]
    Invalid(String),
    /// Not now: the mail server could not be reached or asked to be asked later.
    #[error("{0}")]
    Temporary(String),
    /// The mail server refuses this mail or this client for good.
    #[error("{0}")]
    Refused(String),
}

impl MailError {
    /// Whether the same mail may be taken later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, MailError::Temporary(_))
    }
}
