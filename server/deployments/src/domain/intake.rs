//! An artifact comes in: one pass, nothing held.
//!
//! Each chunk goes to the artifact store and, through a short bounded channel, to a blocking thread
//! where the reader verifies the format and every checksum. The stored file stays invisible until the
//! reader has seen the end; then file and row appear, in this order, with a note in the database that
//! lets the next start remove the file should the server die between the two. Whoever drops an
//! [`Intake`] before [`Intake::finish`] leaves nothing behind.

use std::io;
use std::sync::Arc;

use ambidex_access::TenantId;
use ambidex_artifact::{ErrorKind, Header, ReadOptions, Reader, Summary, Verification};
use ambidex_blob::{BlobError, Upload};
use ambidex_db::{DbError, Statement};
use ambidex_kit::{new_id, rfc3339};
use ambidex_wire::management::deployments::{TypeInfo, Update, UpdateFile};
use bytes::{Buf as _, Bytes};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::artifact::{Artifact, Document, combinations};
use super::recovery;
use crate::Context;
use crate::error::Error;
use crate::store;

/// Chunks between the network and the verifying thread. With the chunks of an HTTP body (at most some
/// hundred KiB) this bounds the memory of an upload.
const CHUNKS_WAITING_MAX: usize = 4;

/// Uploads that are verified at a time, each with a thread and up to a few megabytes of decoder
/// windows; further ones wait.
pub const INTAKES_MAX: usize = 32;

/// What is known before the first byte of the artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    /// Chosen by the client; a fresh one otherwise.
    pub artifact_id: Option<String>,
    pub description: String,
    /// Bytes; 0 and `None`: not announced.
    pub size_bytes: Option<u64>,
}

/// An artifact on its way in.
pub struct Intake {
    context: Context,
    tenant: TenantId,
    announced: Announced,
    blob_key: String,
    upload: Upload,
    chunks: Option<mpsc::Sender<Bytes>>,
    check: JoinHandle<Result<(Header, Summary), ambidex_artifact::Error>>,
    bytes: u64,
    bytes_max: u64,
    storage_full: bool,
    _permit: OwnedSemaphorePermit,
}

impl Intake {
    /// Prepares for the first byte.
    ///
    /// # Errors
    /// 413 when an announced size exceeds a limit already; those of the stores.
    pub async fn begin(
        context: &Context,
        tenant: &TenantId,
        announced: Announced,
    ) -> Result<Self, Error> {
        let permit = slot(context).await?;
        let (bytes_max, storage_full) = room(context, tenant).await?;
        if announced.size_bytes.is_some_and(|bytes| bytes > bytes_max) {
            return Err(too_large(bytes_max, storage_full));
        }
        let blob_key = fresh_key(tenant);
        let upload = context
            .blobs
            .put_begin(&blob_key)
            .await
            .map_err(|error| match error {
                BlobError::Key(_) => {
                    Error::invalid("tenant id has characters that no tenant id has")
                }
                error => error.into(),
            })?;
        let (chunks, incoming) = mpsc::channel(CHUNKS_WAITING_MAX);
        let check = tokio::task::spawn_blocking(move || verify(incoming));
        Ok(Self {
            context: context.clone(),
            tenant: tenant.clone(),
            announced,
            blob_key,
            upload,
            chunks: Some(chunks),
            check,
            bytes: 0,
            bytes_max,
            storage_full,
            _permit: permit,
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// 413 beyond a limit, 400 as soon as the bytes are no valid artifact; those of the store.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(chunk.len() as u64);
        if self
            .announced
            .size_bytes
            .is_some_and(|announced| self.bytes > announced)
        {
            return Err(Error::invalid(
                "reading artifact error: the artifact is larger than the announced size",
            ));
        }
        if self.bytes > self.bytes_max {
            return Err(too_large(self.bytes_max, self.storage_full));
        }
        let Some(chunks) = &self.chunks else {
            return Err(Error::Internal("upload is over".into()));
        };
        if chunks.send(chunk.clone()).await.is_err() {
            return Err(match self.verdict().await {
                Err(error) => error,
                Ok(_) => Error::Internal("the artifact reader stopped before the end".into()),
            });
        }
        self.upload.write(chunk).await?;
        Ok(())
    }

    /// All bytes are there: verifies the end and makes the artifact visible. Returns its id. What `and`
    /// answers happens with it or not at all.
    ///
    /// # Errors
    /// 400 for an invalid artifact, 409 for one that exists, 413 beyond the storage limit; those of the
    /// stores and of `and`.
    pub async fn finish(mut self, and: And<'_>) -> Result<String, Error> {
        self.chunks = None;
        let (header, summary) = self.verdict().await?;
        if self
            .announced
            .size_bytes
            .is_some_and(|announced| announced != self.bytes)
        {
            return Err(Error::invalid(
                "reading artifact error: unexpected EOF: the artifact is smaller than the announced size",
            ));
        }
        let (artifact, combinations) = described(
            &self.context,
            &mut self.announced,
            &header,
            &summary,
            &self.blob_key,
            self.bytes,
        )?;
        let and = and(&artifact)?;
        // From here on a client that hangs up must not interrupt: file and row belong together.
        tokio::spawn(self.publish(artifact, combinations, and))
            .await
            .map_err(|error| Error::Internal(format!("storing an artifact: {error}")))?
    }

    async fn verdict(&mut self) -> Result<(Header, Summary), Error> {
        (&mut self.check)
            .await
            .map_err(|error| Error::Internal(format!("the artifact reader failed: {error}")))?
            .map_err(refusal)
    }

    async fn publish(
        self,
        artifact: Artifact,
        combinations: Vec<String>,
        and: Vec<Statement>,
    ) -> Result<String, Error> {
        let now_ms = self.context.clock.now_ms();
        self.context
            .db
            .apply(vec![store::storage::orphan(&self.blob_key, now_ms)])
            .await?;
        self.upload.commit().await?;
        let limit = (self.bytes_max, self.storage_full);
        register(
            &self.context,
            &self.tenant,
            artifact,
            &combinations,
            limit,
            and,
        )
        .await
    }
}

/// What else happens when an artifact becomes visible.
pub type And<'a> = &'a (dyn Fn(&Artifact) -> Result<Vec<Statement>, Error> + Send + Sync);

/// The artifact that a verified file is.
fn described(
    context: &Context,
    announced: &mut Announced,
    header: &Header,
    summary: &Summary,
    blob_key: &str,
    bytes: u64,
) -> Result<(Artifact, Vec<String>), Error> {
    let conflicting = header.conflicting_provides();
    if !conflicting.is_empty() {
        return Err(Error::invalid(format!(
            "reading artifact error: provided twice: {}",
            conflicting.join(", ")
        )));
    }
    let artifact = Artifact {
        id: announced
            .artifact_id
            .take()
            .unwrap_or_else(|| new_id().to_string()),
        name: header.name.clone(),
        description: std::mem::take(&mut announced.description),
        blob_key: blob_key.to_owned(),
        size_bytes: bytes,
        modified_ms: context.clock.now_ms(),
        device_types: header.device_types.clone(),
        depends: header.depends(),
        document: document(header, summary),
    };
    let combinations = combinations(&artifact.depends)?;
    Ok((artifact, combinations))
}

/// Makes an artifact visible whose file is in the store. A refused one leaves no file.
async fn register(
    context: &Context,
    tenant: &TenantId,
    artifact: Artifact,
    combinations: &[String],
    (bytes_max, storage_full): (u64, bool),
    and: Vec<Statement>,
) -> Result<String, Error> {
    let blob_key = artifact.blob_key.clone();
    let mut batch = vec![
        store::storage::ensure(tenant),
        store::storage::take(tenant, artifact.size_bytes),
        store::storage::claim(&blob_key),
    ];
    const TAKE_INDEX: usize = 1;
    batch.extend(store::artifact::insert(tenant, &artifact, combinations)?);
    batch.extend(and);
    let error = match context.db.apply(batch).await {
        Ok(_) => {
            context.jobs.wake();
            return Ok(artifact.id);
        }
        Err(DbError::Conflict { index: TAKE_INDEX }) => too_large(bytes_max, storage_full),
        Err(DbError::UniqueViolation { constraint }) => {
            Error::Conflict(if constraint.starts_with("artifact_combinations") {
                "an artifact with the same name and depends already exists".to_owned()
            } else {
                "an artifact with the same id already exists".to_owned()
            })
        }
        Err(error) => error.into(),
    };
    if let Err(error) = recovery::drop_orphan(context, &blob_key).await {
        tracing::warn!(
            ?error,
            blob_key,
            "file of a refused artifact is left for later"
        );
    }
    Err(error)
}

async fn slot(context: &Context) -> Result<OwnedSemaphorePermit, Error> {
    Arc::clone(&context.intakes)
        .acquire_owned()
        .await
        .map_err(|error| Error::Internal(format!("waiting for an upload slot: {error}")))
}

/// Bytes that an artifact may have now, and whether the tenant's storage limit is what bounds them.
pub async fn room(context: &Context, tenant: &TenantId) -> Result<(u64, bool), Error> {
    let storage = store::storage::find(&context.db, tenant).await?;
    let free = match storage.limit {
        0 => u64::MAX,
        limit => limit.saturating_sub(storage.usage),
    };
    let storage_full = free < context.settings.artifact_bytes_max;
    Ok((free.min(context.settings.artifact_bytes_max), storage_full))
}

/// A key for a new file of a tenant.
pub fn fresh_key(tenant: &TenantId) -> String {
    key(tenant, new_id())
}

/// The key for a file of a tenant.
pub fn key(tenant: &TenantId, id: Uuid) -> String {
    let file = id.simple();
    match tenant.as_str() {
        "" => file.to_string(),
        tenant => format!("{tenant}/{file}"),
    }
}

pub fn too_large(bytes_max: u64, storage_full: bool) -> Error {
    Error::TooLarge(if storage_full {
        format!(
            "Artifact file too large: the storage limit leaves {bytes_max} bytes; delete artifacts or \
             raise the limit"
        )
    } else {
        format!("Artifact file too large: at most {bytes_max} bytes")
    })
}

/// A slot counter for [`Intake`]s.
pub fn slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(INTAKES_MAX))
}

/// The blocking side: reads everything, keeps nothing.
fn verify(incoming: mpsc::Receiver<Bytes>) -> Result<(Header, Summary), ambidex_artifact::Error> {
    let input = Incoming {
        chunks: incoming,
        current: Bytes::new(),
    };
    // Signatures are for devices to verify: only they know the keys that count.
    let mut reader = Reader::open(input, &ReadOptions::inspect(Verification::Ignore))?;
    let header = reader.header().clone();
    while reader.next_file()?.is_some() {}
    Ok((header, reader.finish()?))
}

/// The channel as something to read from.
struct Incoming {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl io::Read for Incoming {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(out.len());
        self.current.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

/// What an invalid artifact is answered with. Clients look for the beginnings "invalid checksum" and
/// "unsupported version".
fn refusal(error: ambidex_artifact::Error) -> Error {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Source | ErrorKind::Output | ErrorKind::Usage => {
            Error::Internal(format!("reading an artifact: {text}"))
        }
        ErrorKind::Checksum => Error::Invalid(text),
        ErrorKind::Unsupported if text.starts_with("unsupported version") => Error::Invalid(text),
        _ => Error::Invalid(format!("reading artifact error: {text}")),
    }
}

fn document(header: &Header, summary: &Summary) -> Document {
    let kind = header.payload.type_name().map(str::to_owned);
    // Files of an augmented part are not the artifact's own.
    let augmented = |name: &str| {
        header.augment.as_ref().is_some_and(|augment| {
            augment
                .manifest
                .iter()
                .any(|entry| entry.name.ends_with(&format!("/{name}")))
        })
    };
    let files = kind.is_some().then(|| {
        summary
            .files
            .iter()
            .filter(|file| !augmented(&file.name))
            .map(|file| UpdateFile {
                name: file.name.clone(),
                checksum: file.sha256.to_string(),
                size: file.size,
                date: i64::try_from(file.mtime)
                    .ok()
                    .and_then(|seconds| seconds.checked_mul(1000))
                    .map(rfc3339),
            })
            .collect()
    });
    let meta_data = match &header.meta_data {
        Some(Value::Object(map)) if !map.is_empty() => Some(map.clone()),
        _ => None,
    };
    Document {
        version: u32::from(header.version),
        signed: header.signed,
        updates: vec![Update {
            type_info: TypeInfo { kind },
            files,
            meta_data,
        }],
        provides: if header.version >= 3 {
            header.provides()
        } else {
            Default::default()
        },
        clears: header.clears_provides.clone().unwrap_or_default(),
    }
}
