//! An artifact is made of a raw file: `single_file`.
//!
//! The file is stored first; with the answer to the client goes a durable job that writes the artifact
//! and passes it through the same checks as any upload. Raw file and artifact are streamed, nothing is
//! held; until the job is done the artifact is not there. A job that fails for good takes the raw file
//! with it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use ambidex_access::{TenantId, UserIdentity};
use ambidex_artifact::{ArtifactSpec, Payload, PayloadSource, SoftwareVersion, write_streamed};
use ambidex_blob::{Blobs, Content, Upload};
use ambidex_jobs::{Handler, Job, JobError};
use ambidex_kit::{BoxFuture, new_id};
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::artifact::{self, DEVICE_TYPE};
use super::draft::check_text;
use super::intake::{self, Announced, Intake};
use super::{audit, grants, recovery};
use crate::Context;
use crate::error::Error;
use crate::store;

/// The kind of job.
pub const JOB: &str = "generate_artifact";
/// Largest raw file, in bytes (reference, section 0).
pub const RAW_BYTES_MAX: u64 = 256 << 20;
/// Longest name, type and device type, in characters.
const TEXT_CHARS_MAX: usize = 256;
/// The one type there is.
const SINGLE_FILE: &str = "single_file";
/// What installs the artifact.
const PAYLOAD_TYPE: &str = "single-file";
/// Mode of the file when the arguments do not say.
const PERMISSIONS: &str = "644";
/// Pieces between the writer of the artifact and the checks.
const CHUNKS_WAITING_MAX: usize = 4;
/// The writer writes small pieces; they are gathered to this size, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// How the artifact is to be, as the job keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub artifact_id: String,
    pub name: String,
    pub description: String,
    pub device_types: Vec<String>,
    pub args: Args,
    /// Names the stored raw file.
    pub raw_key: String,
    /// Who ordered it.
    pub user_id: String,
}

/// Arguments of `single_file`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    #[serde(default)]
    pub filename: String,
    #[serde(default)]
    pub dest_dir: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_filesystem: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_version: Option<String>,
}

/// The texts of the form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    pub name: String,
    pub description: String,
    pub device_types: Vec<String>,
    pub kind: String,
    /// JSON.
    pub args: String,
    /// Bytes; `None`: not announced.
    pub size_bytes: Option<u64>,
}

fn wrong(text: impl std::fmt::Display) -> Error {
    Error::invalid(format!("api: invalid form parameters: {text}"))
}

impl Form {
    /// Checks everything that does not need the file.
    ///
    /// # Errors
    /// 400 that names what is wrong.
    pub fn check(mut self) -> Result<(Self, Args), Error> {
        let check = |field: &str, text: &str| {
            check_text(field, text, TEXT_CHARS_MAX).map_err(|error| wrong(error.to_string()))
        };
        check("name", &self.name)?;
        check("type", &self.kind)?;
        artifact::check_description(&self.description).map_err(wrong)?;
        if self.kind != SINGLE_FILE {
            return Err(wrong(format!("type: must be {SINGLE_FILE}.")));
        }
        self.device_types = self
            .device_types
            .iter()
            .flat_map(|list| list.split(','))
            .map(|one| one.trim().to_owned())
            .filter(|one| !one.is_empty())
            .collect();
        self.device_types.sort_unstable();
        self.device_types.dedup();
        if self.device_types.is_empty() {
            return Err(wrong("device_types_compatible: cannot be blank."));
        }
        for device_type in &self.device_types {
            check("device_types_compatible", device_type)?;
        }
        let args = Args::parse(&self.args)?;
        // Whatever the artifact writer would refuse is refused now, not in the job.
        let spec = spec(&self.name, &self.device_types, &args);
        let probe = [PayloadSource::from_bytes(args.filename.as_str(), b"")];
        write_streamed(&spec, &probe, None, io::sink(), &mut |_| ()).map_err(wrong)?;
        Ok((self, args))
    }
}

impl Args {
    /// Reads the arguments.
    ///
    /// # Errors
    /// 400 that names what is wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Err(wrong("args: cannot be blank."));
        }
        let args: Self =
            serde_json::from_str(text).map_err(|error| wrong(format!("args: {error}")))?;
        let name = args.filename.as_str();
        if name.is_empty() || name == "." || name == ".." || !name.chars().all(is_safe) {
            return Err(wrong("args: filename: must be the plain name of a file."));
        }
        if ["filename", "dest_dir", "permissions"].contains(&name) {
            return Err(wrong(format!(
                "args: filename: {name} is the name of a part of the artifact."
            )));
        }
        let dir = args.dest_dir.as_str();
        let parts_fit = dir
            .split('/')
            .all(|part| part != ".." && part.chars().all(is_safe));
        if !dir.starts_with('/') || !parts_fit {
            return Err(wrong(
                "args: dest_dir: must be an absolute path of plain names, without '..'.",
            ));
        }
        if args.permissions.as_ref().is_some_and(|mode| {
            mode.is_empty() || mode.len() > 4 || !mode.bytes().all(|b| matches!(b, b'0'..=b'7'))
        }) {
            return Err(wrong("args: permissions: must be octal digits."));
        }
        for (field, value) in [
            ("software_filesystem", &args.software_filesystem),
            ("software_name", &args.software_name),
            ("software_version", &args.software_version),
        ] {
            if value.as_ref().is_some_and(|text| {
                text.chars().count() > TEXT_CHARS_MAX || !text.chars().all(is_safe)
            }) {
                return Err(wrong(format!(
                    "args: {field}: only letters, digits and -_.,:+@ are allowed."
                )));
            }
        }
        Ok(args)
    }
}

/// Characters that mean nothing to a shell or in a path.
fn is_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ',' | ':' | '+' | '@' | ' ')
}

/// What the writer is told.
fn spec(name: &str, device_types: &[String], args: &Args) -> ArtifactSpec {
    let payload = Payload::Module(PAYLOAD_TYPE.to_owned());
    let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    let version = SoftwareVersion {
        filesystem: given(&args.software_filesystem),
        name: given(&args.software_name),
        version: given(&args.software_version),
        ..SoftwareVersion::default()
    };
    let mut provides = BTreeMap::new();
    let mut clears = None;
    version.apply(&payload, name, &mut provides, &mut clears);
    let mut spec = ArtifactSpec::new(payload, name, device_types.to_vec());
    spec.type_provides = provides;
    spec.clears_provides = clears;
    spec
}

/// A raw file on its way in. Dropping it before [`RawFile::finish`] leaves nothing.
pub struct RawFile {
    context: Context,
    user: UserIdentity,
    form: Form,
    args: Args,
    key: String,
    upload: Upload,
    bytes_max: u64,
    storage_full: bool,
}

impl RawFile {
    /// Prepares for the first byte.
    ///
    /// # Errors
    /// 400 for a wrong form, 403 for a release outside the user's roles, 413 for an announced size beyond a
    /// limit, 422 for an artifact that exists; those of the stores.
    pub async fn begin(context: &Context, user: &UserIdentity, form: Form) -> Result<Self, Error> {
        let (form, args) = form.check()?;
        grants::check_release(context, &user.tenant, &user.grants, &form.name).await?;
        let exists = store::artifact::candidates(&context.db, &user.tenant, &form.name)
            .await?
            .iter()
            .any(|candidate| {
                candidate.depends.keys().all(|key| key == DEVICE_TYPE)
                    && candidate
                        .device_types
                        .iter()
                        .any(|known| form.device_types.contains(known))
            });
        if exists {
            return Err(Error::Unprocessable("Artifact not unique".to_owned()));
        }
        let (room, storage_full) = intake::room(context, &user.tenant).await?;
        let bytes_max = room.min(RAW_BYTES_MAX);
        let storage_full = storage_full && room < RAW_BYTES_MAX;
        if form.size_bytes.is_some_and(|bytes| bytes > bytes_max) {
            return Err(intake::too_large(bytes_max, storage_full));
        }
        let key = intake::fresh_key(&user.tenant);
        let upload = context.blobs.put_begin(&key).await?;
        Ok(Self {
            context: context.clone(),
            user: user.clone(),
            form,
            args,
            key,
            upload,
            bytes_max,
            storage_full,
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// 413 beyond a limit; those of the store.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        let bytes = self.upload.written().saturating_add(chunk.len() as u64);
        if bytes > self.bytes_max {
            return Err(intake::too_large(self.bytes_max, self.storage_full));
        }
        self.upload.write(chunk).await?;
        Ok(())
    }

    /// All bytes are there: orders the artifact. Returns the id that it will have.
    ///
    /// # Errors
    /// Those of the stores.
    pub async fn finish(self) -> Result<String, Error> {
        if self
            .form
            .size_bytes
            .is_some_and(|announced| announced != self.upload.written())
        {
            return Err(wrong("size: is not the size of the file."));
        }
        // A client that hangs up must not leave a file without an order.
        tokio::spawn(self.order())
            .await
            .map_err(|error| Error::Internal(format!("ordering an artifact: {error}")))?
    }

    async fn order(self) -> Result<String, Error> {
        let Self {
            context,
            user,
            form,
            args,
            key,
            upload,
            ..
        } = self;
        let order = Order {
            artifact_id: new_id().to_string(),
            name: form.name,
            description: form.description,
            device_types: form.device_types,
            args,
            raw_key: key.clone(),
            user_id: user.user_id,
        };
        let payload = serde_json::to_value(&order)
            .map_err(|error| Error::Internal(format!("an order as JSON: {error}")))?;
        let now_ms = context.clock.now_ms();
        context
            .db
            .apply(vec![store::storage::orphan(&key, now_ms)])
            .await?;
        upload.commit().await?;
        context
            .db
            .apply(vec![
                store::storage::claim(&key),
                context.jobs.enqueue(JOB, user.tenant.as_str(), &payload),
            ])
            .await?;
        context.jobs.wake();
        Ok(order.artifact_id)
    }
}

/// Carries out orders.
pub struct Generator(pub Context);

impl Handler for Generator {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        Box::pin(async move {
            let order: Order =
                serde_json::from_value(job.payload.clone()).map_err(JobError::failed)?;
            let tenant = TenantId::new(job.tenant.as_str());
            match make(&self.0, &tenant, &order, job).await {
                Ok(()) => {}
                // Nobody waits for this artifact any more: it exists already, or does not fit.
                Err(
                    error @ (Error::Invalid(_)
                    | Error::Conflict(_)
                    | Error::TooLarge(_)
                    | Error::NotFound(_)),
                ) => {
                    drop_raw(&self.0, &order.raw_key).await;
                    return Err(JobError::failed(error));
                }
                Err(error) => return Err(JobError::retry(job, error)),
            }
            drop_raw(&self.0, &order.raw_key).await;
            Ok(())
        })
    }
}

async fn drop_raw(context: &Context, key: &str) {
    if let Err(error) = recovery::drop_orphan(context, key).await {
        tracing::warn!(?error, key, "raw file of a generated artifact is left");
    }
}

/// Writes the artifact and makes it visible; the job is done in the same breath.
async fn make(context: &Context, tenant: &TenantId, order: &Order, job: &Job) -> Result<(), Error> {
    let (size_bytes, _) = match context.blobs.head(&order.raw_key).await? {
        Some(meta) => (meta.size, ()),
        None => return Err(Error::NotFound("the raw file is gone")),
    };
    if size_bytes > RAW_BYTES_MAX {
        return Err(intake::too_large(RAW_BYTES_MAX, false));
    }
    let announced = Announced {
        artifact_id: Some(order.artifact_id.clone()),
        description: order.description.clone(),
        size_bytes: None,
    };
    let mut intake = Intake::begin(context, tenant, announced).await?;
    let (chunks, mut pieces) = mpsc::channel(CHUNKS_WAITING_MAX);
    let (blobs, order_in) = (context.blobs.clone(), order.clone());
    let handle = Handle::current();
    let writer = tokio::task::spawn_blocking(move || {
        let out = Pieces {
            chunks,
            gathered: Vec::with_capacity(CHUNK_BYTES),
        };
        compose(&blobs, &handle, &order_in, out)
    });
    while let Some(piece) = pieces.recv().await {
        intake.write(piece).await?;
    }
    writer
        .await
        .map_err(|error| Error::Internal(format!("writing an artifact: {error}")))??;
    let and = |made: &artifact::Artifact| {
        Ok(vec![
            context.jobs.done(job),
            store::storage::orphan(&order.raw_key, context.clock.now_ms()),
            audit::artifact_by(
                context,
                (tenant, &order.user_id),
                audit::UPLOAD,
                &made.id,
                &made.name,
            ),
        ])
    };
    intake.finish(&and).await?;
    Ok(())
}

/// The blocking side: reads the raw file three times, writes the artifact once.
fn compose(blobs: &Blobs, handle: &Handle, order: &Order, out: Pieces) -> Result<(), Error> {
    let args = &order.args;
    let permissions = args.permissions.as_deref().unwrap_or(PERMISSIONS);
    let line = |text: &str| format!("{text}\n").into_bytes();
    let (dir, name, mode) = (
        line(&args.dest_dir),
        line(&args.filename),
        line(permissions),
    );
    let raw = PayloadSource {
        name: args.filename.clone(),
        mode: 0o644,
        mtime_s: 0,
        open: Box::new(|| {
            let (_, content) = handle
                .block_on(blobs.get(&order.raw_key, None))
                .map_err(io::Error::other)?;
            Ok(Box::new(RawReader {
                handle: handle.clone(),
                content,
                current: Bytes::new(),
            }))
        }),
    };
    let payload = [
        PayloadSource::from_bytes("dest_dir", &dir),
        PayloadSource::from_bytes("filename", &name),
        PayloadSource::from_bytes("permissions", &mode),
        raw,
    ];
    let spec = spec(&order.name, &order.device_types, args);
    write_streamed(&spec, &payload, None, out, &mut |_| ()).map_err(|error| {
        Error::Internal(format!("writing the artifact {}: {error}", order.name))
    })?;
    Ok(())
}

/// A stored file as something to read from, outside of the runtime's threads.
struct RawReader {
    handle: Handle,
    content: Content,
    current: Bytes,
}

impl io::Read for RawReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.handle.block_on(self.content.next()) {
                Some(piece) => self.current = piece.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(out.len());
        self.current.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

/// A channel as something to write to.
struct Pieces {
    chunks: mpsc::Sender<Bytes>,
    gathered: Vec<u8>,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(CHUNK_BYTES));
        self.chunks
            .blocking_send(piece.into())
            .map_err(|_| io::Error::other("the artifact was refused"))
    }
}

impl io::Write for Pieces {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let count = content.len().min(CHUNK_BYTES - self.gathered.len());
        self.gathered.extend_from_slice(&content[..count]);
        if self.gathered.len() == CHUNK_BYTES {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// The handler, for registration.
pub fn handler(context: &Context) -> Arc<dyn Handler> {
    Arc::new(Generator(context.clone()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    const ARGS: &str = r#"{"filename":"hello.txt","dest_dir":"/etc/app"}"#;

    fn form() -> Form {
        Form {
            name: "release-1".to_owned(),
            device_types: vec!["b, a".to_owned(), "a".to_owned()],
            kind: SINGLE_FILE.to_owned(),
            args: ARGS.to_owned(),
            ..Form::default()
        }
    }

    #[test]
    fn device_types_may_be_repeated_or_listed() {
        let (form, args) = form().check().unwrap();
        assert_eq!(form.device_types, ["a", "b"]);
        assert_eq!(args.filename, "hello.txt");
    }

    #[test]
    fn wrong_forms_are_named() {
        let with = |change: &dyn Fn(&mut Form)| {
            let mut form = form();
            change(&mut form);
            form.check().unwrap_err().to_string()
        };
        for (text, word) in [
            (with(&|form| form.name.clear()), "name"),
            (with(&|form| form.name = "x".repeat(257)), "name"),
            (with(&|form| form.kind.clear()), "type"),
            (with(&|form| form.kind = "rootfs".into()), "type"),
            (with(&|form| form.device_types.clear()), "device_types"),
            (
                with(&|form| form.device_types = vec!["x".repeat(257)]),
                "device_types",
            ),
            (with(&|form| form.args.clear()), "args"),
            (with(&|form| form.args = "{".into()), "args"),
            (
                with(&|form| form.description = "x".repeat(4097)),
                "description",
            ),
        ] {
            assert!(text.starts_with("api: invalid form parameters: "), "{text}");
            assert!(text.contains(word), "{text} lacks {word}");
        }
    }

    #[test]
    fn only_plain_names_are_arguments() {
        assert!(Args::parse(r#"{"filename":"a","dest_dir":"/"}"#).is_ok());
        assert!(Args::parse(r#"{"filename":"a","dest_dir":"/x","permissions":"0755"}"#).is_ok());
        for wrong in [
            r#"{"dest_dir":"/x"}"#,
            r#"{"filename":"a"}"#,
            r#"{"filename":"../a","dest_dir":"/x"}"#,
            r#"{"filename":"..","dest_dir":"/x"}"#,
            r#"{"filename":"dest_dir","dest_dir":"/x"}"#,
            r#"{"filename":"a","dest_dir":"x"}"#,
            r#"{"filename":"a","dest_dir":"/x/../y"}"#,
            r#"{"filename":"a;b","dest_dir":"/x"}"#,
            r#"{"filename":"a","dest_dir":"/$(x)"}"#,
            r#"{"filename":"a\nb","dest_dir":"/x"}"#,
            r#"{"filename":"a","dest_dir":"/x","permissions":"rw"}"#,
            r#"{"filename":"a","dest_dir":"/x","software_name":"a/b"}"#,
            "[]",
        ] {
            assert!(Args::parse(wrong).is_err(), "{wrong}");
        }
    }
}
