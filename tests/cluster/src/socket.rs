//! A websocket of a device or of a user.

use std::time::Duration;

use ambidex_wire::session::Message;
use anyhow::{Context, Result, anyhow, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

const LIMIT: Duration = Duration::from_secs(120);

pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Connects to `path` of a server as whoever `token` belongs to.
    pub async fn connect(server: &str, path: &str, token: &str) -> Result<Socket> {
        let address = server.strip_prefix("http://").context("a plain server")?;
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        let bearer = format!("Bearer {token}").parse()?;
        request.headers_mut().insert("authorization", bearer);
        let stream = TcpStream::connect(address).await?;
        let (socket, _) = client_async(request, stream)
            .await
            .with_context(|| format!("upgrade of {path}"))?;
        Ok(Socket(socket))
    }

    pub async fn send(&mut self, message: Message) -> Result<()> {
        Ok(self.0.send(Frame::Binary(message.encode().into())).await?)
    }

    /// The next message; pings are passed over. An error when the socket has ended.
    pub async fn next(&mut self) -> Result<Message> {
        loop {
            let next = tokio::time::timeout(LIMIT, self.0.next()).await;
            match next.context("nothing has come in time")? {
                Some(Ok(Frame::Binary(bytes))) => {
                    return Message::decode(&bytes).map_err(|error| anyhow!("{error}"));
                }
                Some(Ok(Frame::Close(frame))) => bail!("closed: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the end"),
            }
        }
    }

    /// The next message of this type, others passed over.
    pub async fn expect(&mut self, kind: &str) -> Result<Message> {
        loop {
            let message = self.next().await?;
            if message.typ == kind {
                return Ok(message);
            }
        }
    }
}
