//! Artifact storage and signed links.
//!
//! [`Blobs`] keeps large immutable objects under short keys. An object becomes visible only when its
//! upload is committed, whole and durable; reading streams pieces and never holds more than one. This
//! crate knows no tenant and no service: who may read what is the caller's business.

mod error;
mod key;
mod link;
mod local;

pub use error::{BlobError, LinkError};
pub use link::DOWNLOAD_PATH;

use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;

use key::Key;
use link::Signer;

/// What is known about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobMeta {
    /// Whole size in bytes, also when only a range is read.
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified_ms: i64,
}

/// The content of an object, piece by piece (at most 256 KiB each).
pub type Content = Pin<Box<dyn Stream<Item = Result<Bytes, BlobError>> + Send>>;

/// A store of objects. Cloning is cheap.
#[derive(Clone)]
pub struct Blobs(Arc<Inner>);

struct Inner {
    engine: Engine,
    signer: Signer,
}

/// Where the objects are. Object stores of other machines join here.
enum Engine {
    Local(local::LocalStore),
}

impl Blobs {
    /// Objects as files below `dir`, which is made if need be.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] when the directory cannot be made or written.
    pub fn local(dir: &Path, signing_secret: [u8; 32]) -> Result<Blobs, BlobError> {
        Ok(Blobs(Arc::new(Inner {
            engine: Engine::Local(local::LocalStore::open(dir)?),
            signer: Signer::new(signing_secret),
        })))
    }

    /// Removes what uploads of an earlier process left behind. Only for the one process that uploads, and
    /// before it begins: it would pull the floor from under uploads in progress.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub async fn remove_unfinished(&self) -> Result<(), BlobError> {
        match &self.0.engine {
            Engine::Local(store) => store.remove_unfinished().await,
        }
    }

    /// Starts an upload. Nothing is visible under `key` until [`Upload::commit`].
    ///
    /// # Errors
    /// [`BlobError::Key`] for a key of the wrong form, [`BlobError::Unavailable`] when nothing can be
    /// written.
    pub async fn put_begin(&self, key: &str) -> Result<Upload, BlobError> {
        let key = Key::parse(key)?;
        match &self.0.engine {
            Engine::Local(store) => store.begin(&key).await.map(Upload),
        }
    }

    /// Reads an object or a range of it (`start..end` in bytes, cut to the size).
    ///
    /// # Errors
    /// [`BlobError::NotFound`]; [`BlobError::Range`] when the range starts at or after the end.
    pub async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<(BlobMeta, Content), BlobError> {
        let key = Key::parse(key)?;
        match &self.0.engine {
            Engine::Local(store) => store.get(&key, range).await,
        }
    }

    /// Size and time of an object, `None` when there is none.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub async fn head(&self, key: &str) -> Result<Option<BlobMeta>, BlobError> {
        let key = Key::parse(key)?;
        match &self.0.engine {
            Engine::Local(store) => store.head(&key).await,
        }
    }

    /// Whether an object exists.
    ///
    /// # Errors
    /// As [`Blobs::head`].
    pub async fn exists(&self, key: &str) -> Result<bool, BlobError> {
        Ok(self.head(key).await?.is_some())
    }

    /// Size of an object in bytes, `None` when there is none.
    ///
    /// # Errors
    /// As [`Blobs::head`].
    pub async fn size(&self, key: &str) -> Result<Option<u64>, BlobError> {
        Ok(self.head(key).await?.map(|meta| meta.size))
    }

    /// Removes an object durably; an object that does not exist is no error. Readers that have it open
    /// finish.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub async fn delete(&self, key: &str) -> Result<(), BlobError> {
        let key = Key::parse(key)?;
        match &self.0.engine {
            Engine::Local(store) => store.delete(&key).await,
        }
    }

    /// Proves that objects can be written at this moment (health checks).
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub async fn ping(&self) -> Result<(), BlobError> {
        match &self.0.engine {
            Engine::Local(store) => store.ping().await,
        }
    }

    /// Path and query of a link that reads `key` with `method` until `expires_at_ms` without any other
    /// credential. `filename` is what a browser will call the file.
    ///
    /// # Errors
    /// [`BlobError::Key`].
    pub fn sign_link(
        &self,
        method: &str,
        key: &str,
        filename: &str,
        expires_at_ms: i64,
    ) -> Result<String, BlobError> {
        let key = Key::parse(key)?;
        Ok(self.0.signer.sign(method, &key, filename, expires_at_ms))
    }

    /// Checks a link: `path` and `query` exactly as the request carried them. A link signed for GET is
    /// good for HEAD too. Returns the file name that was signed.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn verify_link(
        &self,
        method: &str,
        path: &str,
        query: &str,
        now_ms: i64,
    ) -> Result<String, LinkError> {
        self.0.signer.verify(method, path, query, now_ms)
    }
}

impl std::fmt::Debug for Blobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0.engine {
            Engine::Local(store) => f.debug_tuple("Blobs::Local").field(&store.dir()).finish(),
        }
    }
}

/// An upload in progress. Dropping it without a commit removes what was written.
pub struct Upload(local::LocalUpload);

impl Upload {
    /// Appends a piece. Pieces of any size; they are gathered before they are written.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`], for instance when the disk is full. The upload can then only be
    /// dropped.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), BlobError> {
        self.0.write(piece).await
    }

    /// Bytes accepted so far.
    pub fn written(&self) -> u64 {
        self.0.written()
    }

    /// Makes the object durable, then visible; an older object under the key is replaced in one step.
    /// Returns its size in bytes.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`]: nothing became visible.
    pub async fn commit(self) -> Result<u64, BlobError> {
        self.0.commit().await
    }

    /// Gives the upload up.
    pub fn abort(self) {
        drop(self);
    }
}
