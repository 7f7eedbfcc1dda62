//! Files of this machine.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ambidex_wire::session::{Message, file as wire};
use anyhow::{Context as _, Result, bail};
use tokio::sync::mpsc;

use super::{Link, Manner, Out};

/// Largest piece for those who ask for large ones.
const CHUNK_BYTES: usize = 16 << 10;
/// Where a connection that is to break does so, in chunks.
const BREAK_CHUNKS: usize = 30;

struct Transfers {
    link: Arc<Link>,
    sid: String,
    messages: mpsc::Receiver<Message>,
    out: Out,
}

/// Removed unless it was completed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is not there any more when it was completed.
        let _ = fs::remove_file(&self.0);
    }
}

/// Serves one session.
pub(super) async fn serve(
    link: Arc<Link>,
    sid: String,
    messages: mpsc::Receiver<Message>,
    out: Out,
) {
    let mut transfers = Transfers {
        link,
        sid,
        messages,
        out,
    };
    while let Some(message) = transfers.messages.recv().await {
        let typ = message.typ.clone();
        let outcome = match typ.as_str() {
            wire::STAT => transfers.stat(&message).await,
            wire::GET => transfers.get(&message).await,
            wire::PUT => transfers.put(&message).await,
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            let failure = wire::Failure {
                err: format!("{error:#}"),
                msgtype: Some(typ),
                msgid: None,
            };
            let _ = transfers.out.send(failure.message(&transfers.sid)).await;
        }
    }
}

fn mode_of(meta: &fs::Metadata) -> u32 {
    wire::mode_of(meta.mode())
}

/// Counts down; whether this time counts.
fn takes(times: &AtomicUsize) -> bool {
    let down = |left: usize| left.checked_sub(1);
    times
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, down)
        .is_ok()
}

impl Transfers {
    async fn stat(&mut self, ask: &Message) -> Result<()> {
        let path = wire::Path::decode(&ask.body)?.path;
        let meta = fs::metadata(&path).with_context(|| format!("stat {path}"))?;
        let info = wire::FileInfo {
            path,
            size: Some(meta.len()),
            uid: Some(meta.uid()),
            gid: Some(meta.gid()),
            mode: Some(mode_of(&meta)),
            modtime: Some(wire::Timestamp {
                seconds: meta.mtime(),
                nanos: u32::try_from(meta.mtime_nsec())?,
            }),
        };
        Ok(self.out.send(info.message(&self.sid)).await?)
    }

    async fn get(&mut self, ask: &Message) -> Result<()> {
        let path = wire::Path::decode(&ask.body)?.path;
        let mut file = File::open(&path).with_context(|| format!("open {path}"))?;
        let wanted = ask.props.int(wire::CHUNK_BYTES_WANTED);
        let chunk_bytes = match (self.link.manner, wanted) {
            (Manner::Ours, Some(wanted)) => usize::try_from(wanted)?.clamp(4096, CHUNK_BYTES),
            _ => wire::CHUNK_BYTES,
        };
        let window = (chunk_bytes * wire::WINDOW_CHUNKS) as u64;
        let breaks = takes(&self.link.cuts);
        let (mut sent, mut acked, mut count) = (0_u64, 0_u64, 0);
        let mut buffer = vec![0; chunk_bytes];
        loop {
            let filled = file.read(&mut buffer)?;
            while sent >= acked + window {
                acked = self.acknowledged().await?;
            }
            if breaks && count == BREAK_CHUNKS {
                self.link.cut.notify_one();
                std::future::pending::<()>().await;
            }
            let chunk = wire::chunk(&self.sid, sent, &buffer[..filled]);
            self.out.send(chunk).await?;
            sent += filled as u64;
            count += 1;
            if filled == 0 {
                break;
            }
        }
        while acked < sent {
            acked = self.acknowledged().await?;
        }
        Ok(())
    }

    async fn acknowledged(&mut self) -> Result<u64> {
        let message = self.messages.recv().await.context("the session ended")?;
        if message.typ != wire::ACK {
            bail!("another file transfer is in progress");
        }
        message.props.offset().context("missing offset property")
    }

    async fn put(&mut self, ask: &Message) -> Result<()> {
        let put = wire::PutFile::decode(&ask.body)?;
        let mut path = PathBuf::from(&put.path);
        if path.is_dir() {
            let source = put.src_path.as_deref().context("the path is a directory")?;
            path.push(Path::new(source).file_name().context("no name")?);
        }
        let unfinished = Unfinished(PathBuf::from(format!(
            "{}.{:010x}",
            path.display(),
            rand::random::<u32>()
        )));
        let mut file = File::create_new(&unfinished.0)
            .with_context(|| format!("create {}", unfinished.0.display()))?;
        self.out.send(wire::ack(&self.sid, 0)).await?;
        let breaks = takes(&self.link.cuts);
        let spoils = takes(&self.link.spoil);
        let (mut received, mut batch, mut count) = (0_u64, 0, 0);
        loop {
            let mut message = self.messages.recv().await.context("the session ended")?;
            if message.typ != wire::CHUNK {
                bail!("another file transfer is in progress");
            }
            if message.props.offset() != Some(received) {
                bail!("wrong offset, expected {received}: {:?}", message.props);
            }
            if spoils
                && received == 0
                && let Some(first) = message.body.first_mut()
            {
                *first ^= 1;
            }
            file.write_all(&message.body)?;
            received += message.body.len() as u64;
            batch += 1;
            count += 1;
            if breaks && count == BREAK_CHUNKS {
                self.link.cut.notify_one();
                std::future::pending::<()>().await;
            }
            let over = message.body.is_empty();
            // The header of the last chunk of a batch, as the reference does it.
            if over || batch == wire::ACK_CHUNKS || self.messages.is_empty() {
                batch = 0;
                message.body.clear();
                message.typ = wire::ACK.to_owned();
                self.out.send(message).await?;
            }
            if over {
                break;
            }
        }
        let mode = put.mode.unwrap_or(0o644);
        file.set_permissions(Permissions::from_mode(mode))?;
        fs::rename(&unfinished.0, &path).with_context(|| format!("rename {}", path.display()))
    }
}
