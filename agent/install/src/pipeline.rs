//! From the bytes of an artifact to a payload in place.
//!
//! One blocking thread reads, verifies, decompresses and writes; the runtime's thread runs the
//! module's processes meanwhile. Order: signature and header verified, device type and depends
//! checked, the caller told ([`HeaderHook`]), scripts stored, then, and only then, the handler is
//! asked for anything. Nothing is active before [`crate::Handler::install`].
//!
//! When [`fetch`] fails, the file tree of the deployment is left for `Cleanup`, if it was made:
//! call [`crate::Handler::resume`] with the payload type and then `cleanup`.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use ambidex_artifact::provides::{Unmet, check_depends};
use ambidex_artifact::{Header, Limits, Payload, ReadOptions, Reader, Verification};
use ambidex_platform::fs::{self, FsError};
use tokio::runtime::Handle as Runtime;

use crate::context::{CancelFlag, InstallContext, NoProgress, Progress};
use crate::handler::{Handler, HandlerError};
use crate::{module, rootfs, scripts};

/// Told about the verified header before the first payload byte is read, on the installing
/// thread: the place to make the facts durable. An error text stops the installation.
pub type HeaderHook = Box<dyn FnOnce(&ArtifactFacts) -> Result<(), String> + Send>;

/// How to fetch.
pub struct FetchOptions {
    /// Keys that must have signed the artifact.
    pub verify: Verification,
    /// What this device provides, `artifact_name` and `artifact_group` among it.
    pub provides: BTreeMap<String, String>,
    /// Told of every chunk.
    pub progress: Arc<dyn Progress>,
    /// Stops the installation.
    pub cancel: CancelFlag,
    /// Told of the header.
    pub on_header: Option<HeaderHook>,
}

impl FetchOptions {
    /// Nobody to tell, nothing provided.
    #[must_use]
    pub fn new(verify: Verification) -> Self {
        Self {
            verify,
            provides: BTreeMap::new(),
            progress: Arc::new(NoProgress),
            cancel: CancelFlag::new(),
            on_header: None,
        }
    }
}

impl std::fmt::Debug for FetchOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetchOptions")
            .field("provides", &self.provides)
            .finish_non_exhaustive()
    }
}

/// What a deployment must remember of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ArtifactFacts {
    /// Artifact name.
    pub name: String,
    /// Artifact group.
    pub group: Option<String>,
    /// Payload type; `None` for an artifact without payload.
    pub payload_type: Option<String>,
    /// `artifact_provides` of the payload.
    pub provides: BTreeMap<String, String>,
    /// `clears_artifact_provides`; `None` when absent.
    pub clears: Option<Vec<String>>,
    /// Device types it is for.
    pub device_types: Vec<String>,
}

impl From<&Header> for ArtifactFacts {
    fn from(header: &Header) -> Self {
        Self {
            name: header.name.clone(),
            group: header.group.clone(),
            payload_type: header.payload.type_name().map(str::to_owned),
            provides: header.type_provides.clone(),
            clears: header.clears_provides.clone(),
            device_types: header.device_types.clone(),
        }
    }
}

/// A payload that is in place, to be installed.
#[derive(Debug)]
pub struct Fetched {
    /// What the header says.
    pub facts: ArtifactFacts,
    /// Who installs it; `None` for an artifact without payload.
    pub handler: Option<Handler>,
    /// Size of the artifact in bytes.
    pub artifact_bytes: u64,
    /// Size of the payload in bytes, unpacked; of an image, also of one that came as a difference, that of the image.
    pub payload_bytes: u64,
}

/// Why a payload is not in place. The running system is untouched in every case.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The input broke: the network, mostly. The artifact itself may be good.
    #[error("the artifact could not be read to its end: {0}")]
    Source(io::Error),
    /// The artifact is damaged, badly signed or of a kind that is not taken.
    #[error("{}", chain(.0))]
    Artifact(ambidex_artifact::Error),
    /// The artifact is for other devices, or needs something else to be installed first.
    #[error("{0}")]
    Incompatible(Unmet),
    /// The handler failed or is missing.
    #[error(transparent)]
    Handler(HandlerError),
    /// The image does not fit the slot. Nothing was written.
    #[error(
        "the image {name} has {image} bytes; the slot {slot} has {bytes}: nothing was written, build a smaller image or enlarge the slot",
        slot = .slot.display()
    )]
    TooLarge {
        /// Name of the payload file.
        name: String,
        /// Its size in bytes.
        image: u64,
        /// The slot.
        slot: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
    /// The payload does not fit the state's file system.
    #[error(
        "{place} needs {needed} bytes and has {free} free; free some space",
        place = .place.display()
    )]
    NoSpace {
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// Where.
        place: PathBuf,
    },
    /// The caller refused the header.
    #[error("{0}")]
    Refused(String),
    /// The cancel flag was set.
    #[error("the installation was cancelled")]
    Cancelled,
}

impl FetchError {
    /// True when trying again may help, because nothing is wrong with artifact or device.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Source(_))
    }
}

/// The error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl From<ambidex_artifact::Error> for FetchError {
    fn from(error: ambidex_artifact::Error) -> Self {
        match error {
            ambidex_artifact::Error::Source(cause) => Self::Source(cause),
            other => Self::Artifact(other),
        }
    }
}

impl From<HandlerError> for FetchError {
    fn from(error: HandlerError) -> Self {
        Self::Handler(error)
    }
}

impl From<FsError> for FetchError {
    fn from(error: FsError) -> Self {
        Self::Handler(error.into())
    }
}

impl From<module::DownloadError> for FetchError {
    fn from(error: module::DownloadError) -> Self {
        match error {
            module::DownloadError::Artifact(error) => error.into(),
            module::DownloadError::Handler(error) => Self::Handler(error),
            module::DownloadError::NoSpace {
                needed,
                free,
                place,
            } => Self::NoSpace {
                needed,
                free,
                place,
            },
            module::DownloadError::Cancelled => Self::Cancelled,
        }
    }
}

impl From<rootfs::DownloadError> for FetchError {
    fn from(error: rootfs::DownloadError) -> Self {
        match error {
            rootfs::DownloadError::Artifact(error) => error.into(),
            rootfs::DownloadError::Handler(error) => Self::Handler(error),
            rootfs::DownloadError::TooLarge {
                name,
                image,
                slot,
                bytes,
            } => Self::TooLarge {
                name,
                image,
                slot,
                bytes,
            },
            rootfs::DownloadError::Cancelled => Self::Cancelled,
        }
    }
}

/// Streams an artifact into place. Must be called inside a runtime whose thread keeps running.
///
/// Dropping the future cancels: the thread stops at its next chunk; an `input` that blocks must
/// have an end of its own.
///
/// # Errors
/// [`FetchError`]; the running system is untouched.
pub async fn fetch<R: Read + Send + 'static>(
    input: R,
    context: &InstallContext,
    options: FetchOptions,
) -> Result<Fetched, FetchError> {
    let runtime = Runtime::current();
    let context = context.clone();
    let cancel = options.cancel.clone();
    let mut guard = CancelOnDrop {
        cancel: cancel.clone(),
        armed: true,
    };
    let thread = tokio::task::spawn_blocking(move || run(input, &context, options, &runtime));
    let result = thread.await;
    guard.armed = false;
    match result {
        // an input that was stopped along with us fails in its own words
        Ok(Err(FetchError::Source(_))) if cancel.is_cancelled() => Err(FetchError::Cancelled),
        Ok(result) => result,
        Err(error) => {
            let problem = format!("the installing thread ended unexpectedly: {error}");
            Err(FetchError::Handler(HandlerError::State(problem)))
        }
    }
}

struct CancelOnDrop {
    cancel: CancelFlag,
    armed: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.armed {
            self.cancel.cancel();
        }
    }
}

fn run<R: Read>(
    input: R,
    context: &InstallContext,
    options: FetchOptions,
    runtime: &Runtime,
) -> Result<Fetched, FetchError> {
    // what an earlier deployment left must not be taken for this one's
    fs::remove_tree(&context.work_dir)?;
    scripts::clear(&context.scripts_dir)?;
    let read_options = ReadOptions {
        limits: Limits::default(),
        ..ReadOptions::device(options.verify)
    };
    let mut reader = Reader::open(input, &read_options)?;
    check_depends(
        &reader.header().depends(),
        &context.device_type,
        &options.provides,
    )
    .map_err(FetchError::Incompatible)?;
    let facts = ArtifactFacts::from(reader.header());
    log::info!(
        "artifact {} with payload {}",
        facts.name,
        facts.payload_type.as_deref().unwrap_or("(none)")
    );
    if let Some(hook) = options.on_header {
        hook(&facts).map_err(FetchError::Refused)?;
    }
    if options.cancel.is_cancelled() {
        return Err(FetchError::Cancelled);
    }
    scripts::store(&context.scripts_dir, &reader.header().scripts)?;

    let handler = match &reader.header().payload {
        Payload::Empty => None,
        Payload::RootfsImage | Payload::Module(_) => {
            let name = facts.payload_type.as_deref().unwrap_or_default();
            Some(Handler::resume(name, context)?)
        }
    };
    let progress = options.progress.as_ref();
    let mut image_bytes = None;
    match &handler {
        None => {}
        Some(Handler::Rootfs(rootfs)) => {
            rootfs.prepare(reader.header())?;
            let written = rootfs.download(&mut reader, runtime, progress, &options.cancel)?;
            image_bytes = Some(written.image_bytes);
        }
        Some(Handler::Module(module)) => {
            module.check_exists()?;
            module.tree().create(context, reader.header())?;
            module::download(module, &mut reader, runtime, progress, &options.cancel)?;
        }
    }
    let summary = reader.finish()?;
    Ok(Fetched {
        facts,
        handler,
        artifact_bytes: summary.bytes_read,
        payload_bytes: image_bytes
            .unwrap_or_else(|| summary.files.iter().map(|file| file.size).sum()),
    })
}
