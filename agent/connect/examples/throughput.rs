//! How fast files go through a session: `cargo run --release -p ambidex-connect --example throughput [MiB] [FOLDER]`.
//!
//! The device is a thread with the agent's kind of runtime; the other end speaks to it over the loopback with
//! pieces of 16 KiB, as a server of ours does. What a server in between costs is not in the numbers.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ambidex_connect::{Remote, Settings};
use ambidex_wire::session::{Message, PROTO_CONTROL, PROTO_FILE, control, file};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::Role;

type Outcome<T> = Result<T, Box<dyn Error>>;

const SID: &str = "s1";
const CHUNK_BYTES: usize = 16 << 10;

struct Peer(WebSocketStream<TcpStream>);

impl Peer {
    async fn send(&mut self, message: Vec<u8>) -> Outcome<()> {
        Ok(self.0.send(Frame::Binary(message.into())).await?)
    }

    async fn next(&mut self) -> Outcome<Message> {
        loop {
            match self.0.next().await.ok_or("the device has gone")?? {
                Frame::Binary(bytes) => {
                    let message = Message::decode(&bytes)?;
                    if message.proto == PROTO_CONTROL && message.typ == control::PING {
                        let pong = Message::new(PROTO_CONTROL, control::PONG, SID);
                        self.send(pong.encode()).await?;
                    } else if message.typ == file::ERROR {
                        return Err(file::Failure::decode(&message.body)?.err.into());
                    } else if message.proto == PROTO_FILE {
                        return Ok(message);
                    }
                }
                _ => continue,
            }
        }
    }

    async fn acknowledged(&mut self) -> Outcome<u64> {
        Ok(self.next().await?.props.offset().unwrap_or_default())
    }

    async fn upload(&mut self, path: &Path, bytes: u64) -> Outcome<()> {
        let put = file::PutFile {
            path: path.display().to_string(),
            ..file::PutFile::default()
        };
        self.send(put.message(SID).encode()).await?;
        let mut acked = self.acknowledged().await?;
        let content = vec![7; CHUNK_BYTES];
        let mut sent = 0;
        while sent < bytes {
            while sent >= acked + (CHUNK_BYTES * file::WINDOW_CHUNKS) as u64 {
                acked = self.acknowledged().await?;
            }
            let piece = file::chunk(SID, sent, b"").encode_with(&content);
            self.send(piece).await?;
            sent += content.len() as u64;
        }
        self.send(file::chunk(SID, sent, b"").encode()).await?;
        while acked < sent {
            acked = self.acknowledged().await?;
        }
        Ok(())
    }

    async fn download(&mut self, path: &Path) -> Outcome<u64> {
        let ask = file::Path {
            path: path.display().to_string(),
        };
        let ask = ask
            .message(file::GET, SID)
            .prop(file::CHUNK_BYTES_WANTED, CHUNK_BYTES as u64);
        self.send(ask.encode()).await?;
        let (mut received, mut pieces) = (0, 0);
        loop {
            let piece = self.next().await?;
            received += piece.body.len() as u64;
            pieces += 1;
            let end = piece.body.is_empty();
            if end || pieces % file::ACK_CHUNKS == 0 {
                self.send(file::ack(SID, received).encode()).await?;
            }
            if end {
                return Ok(received);
            }
        }
    }
}

async fn measure(listener: TcpListener, mebibytes: u64, folder: &Path) -> Outcome<()> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let mut peer = Peer(WebSocketStream::from_raw_socket(stream, Role::Server, None).await);
    let path = folder.join("ambidex-throughput");
    let say = |what: &str, start: Instant| {
        let seconds = start.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a few figures are enough")]
        let speed = mebibytes as f64 / seconds;
        writeln!(
            std::io::stdout(),
            "{what}: {mebibytes} MiB in {seconds:.2} s, {speed:.0} MiB/s"
        )
    };
    for _ in 0..3 {
        let start = Instant::now();
        peer.upload(&path, mebibytes << 20).await?;
        say("upload", start)?;
        let start = Instant::now();
        let received = peer.download(&path).await?;
        say("download", start)?;
        assert_eq!(received, mebibytes << 20);
    }
    std::fs::remove_file(path)?;
    Ok(())
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let mebibytes = arguments.next().map_or(Ok(100), |n| n.parse())?;
    let folder = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    };
    let here = runtime()?;
    let listener = here.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let state = folder.join("ambidex-throughput-state");
    let device = {
        let state = state.clone();
        std::thread::spawn(move || {
            let (wishes, _wanted) = tokio::sync::mpsc::channel(1);
            let remote = Remote::new(Settings::new(None, state), wishes);
            let there = runtime().expect("a runtime can be made");
            there.block_on(async {
                let stream = TcpStream::connect(address)
                    .await
                    .expect("the other end listens");
                stream.set_nodelay(true).expect("the connection is open");
                remote.serve(stream, std::future::pending()).await
            })
        })
    };
    let measured = here.block_on(measure(listener, mebibytes, &folder));
    let _ = device.join();
    let _ = std::fs::remove_dir_all(state);
    measured
}
