//! What turns an HTTP exchange into a websocket (RFC 6455, section 4.1).

use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The one version of the websocket protocol.
pub const VERSION: &str = "13";

/// What we ask with: the value of `Sec-WebSocket-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// A fresh one.
    #[must_use]
    pub fn new() -> Key {
        Key(generate_key())
    }

    /// As a header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this value of `Sec-WebSocket-Accept` answers it. A cache or a proxy that does not know
    /// websockets has none, or an old one.
    #[must_use]
    pub fn is_answered_by(&self, accept: Option<&[u8]>) -> bool {
        accept.is_some_and(|accept| accept == derive_accept_key(self.0.as_bytes()).as_bytes())
    }
}

impl Default for Key {
    fn default() -> Key {
        Key::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_answer_counts() {
        // the example of the RFC
        let key = Key("dGhlIHNhbXBsZSBub25jZQ==".to_owned());
        assert!(key.is_answered_by(Some(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
        assert!(!key.is_answered_by(Some(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo")));
        assert!(!key.is_answered_by(None));
        assert_ne!(Key::new(), Key::new());
    }
}
