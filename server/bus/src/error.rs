/// Why a message did not get through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Nobody listens to the subject of a request.
    #[error("nobody listens to {0}")]
    NoResponders(String),
    /// Somebody listens, but did not answer in time.
    #[error("no answer from {0} in time")]
    Timeout(String),
    /// The subject has a form that the bus cannot carry.
    #[error("unusable subject {0:?}")]
    Subject(String),
    /// The payload exceeds what the bus carries in one message: split it.
    #[error("a message of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLarge {
        /// Size of the payload.
        bytes: usize,
        /// Largest size.
        bytes_max: usize,
    },
    /// The message did not ask for an answer.
    #[error("the message asks for no answer")]
    NoReply,
    /// The address or the options of the bus are wrong; the text says which.
    #[error("message bus: {0}")]
    Config(String),
    /// Other instances cannot be reached at the moment.
    #[error("message bus: {0}")]
    Unavailable(String),
}
