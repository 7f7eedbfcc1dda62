//! Files to and from a device for callers that speak plain HTTP: the server is the other end.

use std::path::PathBuf;
use std::time::Duration;

use ambidex_access::UserIdentity;
use ambidex_wire::session::{Message, PROTO_CONTROL, PROTO_FILE, VERSION, control, file, shell};
use bytes::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::session::{self, Event, Inbound, Outbound};
use super::{admission, audit};
use crate::{DeviceconnectError, Inner};

/// How long we wait for news of a late failure after the device has all the content: it renames and
/// changes owners after its last acknowledgement.
const LATE_FAILURE: Duration = Duration::from_secs(5);
/// Bytes of a message around its content.
const ENVELOPE_BYTES: usize = 512;
/// Largest piece of content, whatever the device reads: a whole window of them must fit into what may be
/// under way in a session.
const CHUNK_BYTES_MAX: usize = 16 << 10;

const NOT_OFFERED: &str = "the device does not offer file transfer";

/// A session in which one file is copied.
pub(crate) struct Transfer {
    outbound: Outbound,
    inbound: Inbound,
    sid: String,
    user_id: String,
    /// How long the device may be silent.
    patience: Duration,
}

fn device_error(status: u16, text: impl Into<String>) -> DeviceconnectError {
    DeviceconnectError::Device(status, text.into())
}

/// Opens a session with a device that offers file transfer, and tells the audit log.
pub(crate) async fn open(
    inner: &Inner,
    user: &UserIdentity,
    device: &str,
    action: Option<&'static str>,
    path: &str,
) -> Result<Transfer, DeviceconnectError> {
    if !path.starts_with('/') {
        return Err(DeviceconnectError::Invalid(
            "path: must be absolute".to_owned(),
        ));
    }
    admission::connected_device(inner, user, device).await?;
    let (outbound, inbound) = session::open(inner, &user.tenant, device, &user.user_id).await?;
    outbound.farewell("the transfer has ended");
    let mut transfer = Transfer {
        sid: outbound.sid().to_string(),
        outbound,
        inbound,
        user_id: user.user_id.clone(),
        patience: inner.settings.transfer_patience,
    };
    transfer.handshake().await?;
    if let Some(action) = action {
        let event = audit::file(
            action,
            &user.user_id,
            device,
            &transfer.sid,
            path,
            inner.clock.now_ms(),
        );
        audit::record(inner, user.tenant.as_str(), &event).await?;
    }
    Ok(transfer)
}

impl Transfer {
    async fn send(&self, message: Message) -> Result<(), DeviceconnectError> {
        let message = message.prop(shell::USER_ID, self.user_id.as_str());
        let sent = self.outbound.send(&message.encode()).await;
        sent.map_err(|reason| device_error(409, reason))
    }

    /// The next message that is about the transfer.
    async fn next(&mut self) -> Result<Message, DeviceconnectError> {
        loop {
            let event = timeout(self.patience, self.inbound.next()).await;
            let bytes = match event {
                Err(_) => return Err(device_error(408, "timeout waiting for the device")),
                Ok(Event::Gone(reason)) => return Err(device_error(409, reason)),
                Ok(Event::Data(bytes)) => bytes,
            };
            self.inbound.consumed(bytes.len());
            let message = Message::decode(&bytes)
                .map_err(|_| device_error(502, "the device sent a malformed message"))?;
            match (message.proto, message.typ.as_str()) {
                (PROTO_CONTROL, control::PING) => {
                    let pong = Message::new(PROTO_CONTROL, control::PONG, &self.sid);
                    self.send(pong).await?;
                }
                (PROTO_CONTROL, control::ERROR) => {
                    let error = control::Failure::decode(&message.body).unwrap_or_default();
                    let status = error.code.filter(|code| (400..600).contains(code));
                    return Err(device_error(status.unwrap_or(400), error.err));
                }
                (PROTO_FILE, file::ERROR) => {
                    let error = file::Failure::decode(&message.body).unwrap_or_default();
                    return Err(device_error(400, error.err));
                }
                _ => return Ok(message),
            }
        }
    }

    async fn handshake(&mut self) -> Result<(), DeviceconnectError> {
        self.send(control::Open::default().message(&self.sid))
            .await?;
        let answer = self.next().await?;
        let accept = match (answer.proto, answer.typ.as_str()) {
            (PROTO_CONTROL, control::ACCEPT) => control::Accept::decode(&answer.body).ok(),
            _ => None,
        };
        match accept {
            Some(accept) if accept.version == VERSION && accept.protocols.contains(&PROTO_FILE) => {
                Ok(())
            }
            _ => Err(device_error(502, NOT_OFFERED)),
        }
    }

    /// What the device knows of a plain file.
    pub(crate) async fn stat(&mut self, path: &str) -> Result<file::FileInfo, DeviceconnectError> {
        let ask = file::Path {
            path: path.to_owned(),
        };
        self.send(ask.message(file::STAT, &self.sid)).await?;
        let answer = self.next().await?;
        if (answer.proto, answer.typ.as_str()) != (PROTO_FILE, file::INFO) {
            return Err(device_error(502, "the device did not tell of the file"));
        }
        let info = file::FileInfo::decode(&answer.body)
            .map_err(|_| device_error(502, "the device sent a malformed message"))?;
        if info.is_file() {
            Ok(info)
        } else {
            Err(DeviceconnectError::Invalid(
                "path: is not a regular file".to_owned(),
            ))
        }
    }

    /// Ends the session in order. Dropping it does so too, with a little more noise on the device.
    pub(crate) async fn close(&mut self) {
        let _ = self.send(control::close(&self.sid)).await;
    }

    /// The content of a file. The first piece is here already, so that a refusal is known before the
    /// answer begins.
    pub(crate) async fn download(
        self,
        path: &str,
    ) -> Result<
        impl Stream<Item = Result<Bytes, DeviceconnectError>> + Send + use<>,
        DeviceconnectError,
    > {
        let ask = file::Path {
            path: path.to_owned(),
        };
        let ask = ask
            .message(file::GET, &self.sid)
            .prop(file::CHUNK_BYTES_WANTED, CHUNK_BYTES_MAX as u64);
        self.send(ask).await?;
        let mut download = Download {
            transfer: self,
            received: 0,
            pieces: 0,
        };
        let first = download.next().await?;
        let state = Some((download, first));
        Ok(futures_util::stream::try_unfold(state, |state| async {
            let Some((mut download, Some(piece))) = state else {
                return Ok(None);
            };
            let next = download.next().await?;
            Ok(Some((piece, Some((download, next)))))
        }))
    }

    /// Sends a file of `size` bytes. Returns once the device has it in place.
    pub(crate) async fn upload(
        &mut self,
        put: &file::PutFile,
        content: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), DeviceconnectError> {
        self.send(put.message(&self.sid)).await?;
        let mut acked = self.acknowledged().await?;
        let chunk_bytes = self
            .outbound
            .message_bytes_max
            .saturating_sub(ENVELOPE_BYTES)
            .clamp(file::CHUNK_BYTES, CHUNK_BYTES_MAX);
        // A round number of blocks for devices that read more than they must.
        let chunk_bytes = chunk_bytes - chunk_bytes % file::CHUNK_BYTES;
        let window = (chunk_bytes * file::WINDOW_CHUNKS) as u64;
        let mut chunk = vec![0; chunk_bytes];
        let mut sent = 0_u64;
        loop {
            let filled = fill(content, &mut chunk).await?;
            while sent >= acked + window {
                acked = acked.max(self.acknowledged().await?);
            }
            self.send(file::chunk(&self.sid, sent, &chunk[..filled]))
                .await?;
            if filled == 0 {
                break;
            }
            sent += filled as u64;
        }
        // Devices acknowledge the beginning of a chunk; the end has no length, so it is exact.
        while acked < sent {
            acked = acked.max(self.acknowledged().await?);
        }
        self.settle().await
    }

    async fn acknowledged(&mut self) -> Result<u64, DeviceconnectError> {
        loop {
            let message = self.next().await?;
            if (message.proto, message.typ.as_str()) == (PROTO_FILE, file::ACK) {
                return Ok(message.props.offset().unwrap_or_default());
            }
        }
    }

    /// Waits until failures after the last acknowledgement would have been heard.
    async fn settle(&mut self) -> Result<(), DeviceconnectError> {
        self.send(Message::new(PROTO_CONTROL, control::PING, &self.sid))
            .await?;
        let pong = async {
            loop {
                let message = self.next().await?;
                if (message.proto, message.typ.as_str()) == (PROTO_CONTROL, control::PONG) {
                    return Ok(());
                }
            }
        };
        timeout(LATE_FAILURE, pong).await.unwrap_or(Ok(()))
    }
}

/// Fills the buffer as far as there is content.
async fn fill(
    content: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
) -> Result<usize, DeviceconnectError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]).await? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

struct Download {
    transfer: Transfer,
    received: u64,
    pieces: usize,
}

impl Download {
    /// The next piece; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, DeviceconnectError> {
        let message = self.transfer.next().await?;
        if (message.proto, message.typ.as_str()) != (PROTO_FILE, file::CHUNK) {
            return Err(device_error(
                502,
                "the device sent something else than the file",
            ));
        }
        if message.props.offset() != Some(self.received) {
            return Err(device_error(
                500,
                "the device sent a piece of another place",
            ));
        }
        let end = message.body.is_empty();
        self.received += message.body.len() as u64;
        self.pieces += 1;
        if end || self.pieces.is_multiple_of(file::ACK_CHUNKS) {
            let ack = file::ack(&self.transfer.sid, self.received);
            self.transfer.send(ack).await?;
        }
        if end {
            self.transfer.close().await;
            return Ok(None);
        }
        Ok(Some(message.body.into()))
    }
}

/// Content that had to be kept until the rest of its form had been read.
pub(crate) struct Spool {
    directory: PathBuf,
}

impl Spool {
    pub(crate) fn new(directory: Option<PathBuf>) -> Spool {
        Spool {
            directory: directory.unwrap_or_else(std::env::temp_dir),
        }
    }

    /// A file that has no name and vanishes when it is closed.
    pub(crate) async fn file(&self) -> Result<tokio::fs::File, DeviceconnectError> {
        let directory = self.directory.clone();
        let made = tokio::task::spawn_blocking(move || tempfile::tempfile_in(directory)).await;
        let file = made.map_err(std::io::Error::other)??;
        Ok(tokio::fs::File::from_std(file))
    }
}
