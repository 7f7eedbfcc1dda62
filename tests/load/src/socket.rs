//! A websocket client, as cheap as it gets, so that the generator leaves the machine to the server: no
//! fragments, no extensions, masks of zeros.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
/// Connections from one source address, well below the number of ports that it has.
const CONNECTIONS_PER_ADDRESS: usize = 20_000;

/// An open websocket.
pub struct Socket {
    stream: TcpStream,
    out: Vec<u8>,
}

impl Socket {
    /// Opens `path` on the server. `number` counts the connections of this process, which take turns in
    /// the addresses of the loopback network.
    pub async fn open(
        address: &str,
        path: &str,
        token: &str,
        number: usize,
    ) -> anyhow::Result<Self> {
        let server: SocketAddr = address.parse().context("the server's address")?;
        let socket = TcpSocket::new_v4()?;
        let turn = u8::try_from(number / CONNECTIONS_PER_ADDRESS).unwrap_or(u8::MAX);
        let source = Ipv4Addr::new(127, 0, 1, turn.saturating_add(1));
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((source, 0)))?;
        let mut stream = socket.connect(server).await.context("connect")?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        // Byte by byte: nothing behind the head may be taken away from the frames.
        let mut head = Vec::with_capacity(512);
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.context("the answer's head")?);
            if head.len() > 4096 {
                bail!("the answer has no end");
            }
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
            bail!("{path} answered {}", String::from_utf8_lossy(line));
        }
        Ok(Self {
            stream,
            out: Vec::new(),
        })
    }

    /// Sends one binary message.
    pub async fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.frame(BINARY, message).await
    }

    async fn frame(&mut self, opcode: u8, payload: &[u8]) -> anyhow::Result<()> {
        self.out.clear();
        self.out.push(0x80 | opcode);
        match payload.len() {
            length @ 0..126 => self.out.push(0x80 | length as u8),
            length @ 126..65_536 => {
                self.out.push(0x80 | 126);
                self.out.extend((length as u16).to_be_bytes());
            }
            length => {
                self.out.push(0x80 | 127);
                self.out.extend((length as u64).to_be_bytes());
            }
        }
        self.out.extend([0; 4]);
        self.out.extend(payload);
        Ok(self.stream.write_all(&self.out).await?)
    }

    /// The next binary message; pings are answered.
    pub async fn next(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            let opcode = self.stream.read_u8().await? & 0x0f;
            let length = match self.stream.read_u8().await? & 0x7f {
                126 => u64::from(self.stream.read_u16().await?),
                127 => self.stream.read_u64().await?,
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length)?];
            self.stream.read_exact(&mut payload).await?;
            match opcode {
                BINARY => return Ok(payload),
                PING => self.frame(PONG, &payload).await?,
                CLOSE => bail!("the server closed: {}", String::from_utf8_lossy(&payload)),
                _ => {}
            }
        }
    }
}
