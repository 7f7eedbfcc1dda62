//! The websocket of remote access, over the same client as everything else: trust, proxies and time limits
//! are the same.
//!
//! Operation "Connect" of the device API. Source: remote-terminal facts, section 1.

use ambidex_connect::{MESSAGE_BYTES_MAX, handshake};
use ambidex_wire::session::MESSAGE_BYTES_HEADER;
use reqwest::{StatusCode, Upgraded, header};
use tokio::time::timeout;

use super::{ANSWER_BYTES_MAX, Link, LinkError, LinkErrorKind, Session, failure};

const PATH: &str = "/api/devices/v1/deviceconnect/connect";
const DOING: &str = "open remote access";

impl Link {
    /// Opens the websocket of remote access.
    ///
    /// # Errors
    /// Unauthorized when the token is refused, which is then forgotten; otherwise what failed.
    pub(crate) async fn open_socket(&self, session: &Session) -> Result<Upgraded, LinkError> {
        let limit = self.config().http.request_timeout;
        let opened = timeout(limit, self.upgrade(session)).await;
        let opened = opened.unwrap_or_else(|_| {
            Err(LinkError::transient(format!(
                "cannot {DOING} at {}: no answer in {} s",
                session.server,
                limit.as_secs()
            )))
        });
        if let Err(error) = &opened
            && error.kind() == LinkErrorKind::Unauthorized
        {
            self.forget(session);
        }
        opened
    }

    async fn upgrade(&self, session: &Session) -> Result<Upgraded, LinkError> {
        let server = &session.server;
        let failed = |error: reqwest::Error| failure::no_answer(DOING, server, &error);
        let key = handshake::Key::new();
        let request = self
            .client()
            .await?
            .get(format!("{server}{PATH}"))
            .header(header::AUTHORIZATION, session.token.bearer())
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, handshake::VERSION)
            .header(header::SEC_WEBSOCKET_KEY, key.as_str())
            .header(MESSAGE_BYTES_HEADER, MESSAGE_BYTES_MAX);
        let mut response = self.dispatch(request).await.map_err(failed)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let mut body = Vec::new();
            while let Some(piece) = response.chunk().await.map_err(failed)? {
                if body.len() + piece.len() > ANSWER_BYTES_MAX {
                    break;
                }
                body.extend_from_slice(&piece);
            }
            let (status, headers) = (response.status(), response.headers());
            return Err(failure::bad_status(DOING, server, status, headers, &body));
        }
        let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if !key.is_answered_by(accept.map(header::HeaderValue::as_bytes)) {
            return Err(LinkError::transient(format!(
                "cannot {DOING}: {server} does not answer as a websocket; is a proxy in between?"
            )));
        }
        response.upgrade().await.map_err(failed)
    }
}
