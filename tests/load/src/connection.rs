//! One keep-alive HTTP/1.1 connection, as cheap as it gets, so that the generator leaves the
//! machine to the server.

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Larger answers than this are no part of any measured operation.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// A connection to the server's public listener.
pub struct Connection {
    stream: TcpStream,
    address: String,
    buffer: Vec<u8>,
}

/// Status and body of one answer.
pub struct Answer {
    pub status: u16,
    /// The header of this name.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            address: address.to_owned(),
            buffer: Vec::with_capacity(4096),
        })
    }

    /// Sends one request and reads its answer. `headers` are whole lines with their CRLF.
    pub async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        self.buffer.clear();
        self.buffer.extend_from_slice(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\n\r\n",
                self.address,
                body.len()
            )
            .as_bytes(),
        );
        self.buffer.extend_from_slice(body);
        self.stream
            .write_all(&self.buffer)
            .await
            .context("send a request")?;
        self.buffer.clear();
        let head_length = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more().await?;
        };
        let head = std::str::from_utf8(&self.buffer[..head_length]).context("answer head")?;
        let status: u16 = head
            .get(9..12)
            .and_then(|digits| digits.parse().ok())
            .with_context(|| format!("no status line in {head:?}"))?;
        let mut body_length = 0;
        let mut location = None;
        for line in head.split("\r\n").skip(1) {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                body_length = value.trim().parse().context("content-length")?;
            } else if name.eq_ignore_ascii_case("location") {
                location = Some(value.trim().to_owned());
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                bail!("the answer to {method} {path} is chunked, which no measured call is");
            }
        }
        while self.buffer.len() < head_length + body_length {
            self.read_more().await?;
        }
        Ok(Answer {
            status,
            location,
            body: self.buffer[head_length..head_length + body_length].to_vec(),
        })
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        if self.buffer.len() > RESPONSE_BYTES_MAX {
            bail!("answer of more than {RESPONSE_BYTES_MAX} bytes");
        }
        let count = self
            .stream
            .read_buf(&mut self.buffer)
            .await
            .context("read an answer")?;
        if count == 0 {
            bail!("the server closed the connection in the middle of an answer");
        }
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
