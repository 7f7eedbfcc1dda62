//! Artifact storage and signed links.
//!
//! [`Blobs`] keeps large immutable objects under short keys. An object becomes visible only when its
//! upload is committed, whole and durable; reading streams pieces and never holds more than one. This
//! crate knows no tenant and no service: who may read what is the caller's business.

mod error;
mod key;
mod link;
mod local;
mod s3;

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

/// Where the objects are.
enum Engine {
    Local(local::LocalStore),
    S3(Box<s3::S3Store>),
}

/// Uploads of other processes are left alone for so long, in milliseconds.
const UNFINISHED_MS: i64 = 48 * 60 * 60 * 1000;

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

    /// Objects in a bucket of an S3 server, which several processes may share.
    ///
    /// `url` is `s3://BUCKET[/PREFIX]` with any of these options behind a `?`, divided by `&`:
    /// `endpoint=URL` (where the server is, unless it is Amazon's), `public_endpoint=URL` (where devices
    /// and browsers reach it, for links), `region=NAME`, `credentials=FILE` and `profile=NAME` (keys in
    /// the format of the AWS tools; without it the variables `AWS_ACCESS_KEY_ID` and
    /// `AWS_SECRET_ACCESS_KEY`, or the machine's role, are used), `ca=FILE` (certificates to trust beside
    /// the system's), `virtual_hosts=true|false` (the bucket as part of the host name; by default only
    /// without `endpoint`), `links=storage|server` (whether links lead to the S3 server, or to this one,
    /// which then passes the content on). Nothing is sent yet.
    ///
    /// # Errors
    /// [`BlobError::Config`] for a URL, an option or a file that cannot work.
    pub fn s3(url: &str, signing_secret: [u8; 32]) -> Result<Blobs, BlobError> {
        Ok(Blobs(Arc::new(Inner {
            engine: Engine::S3(Box::new(s3::S3Store::open(url)?)),
            signer: Signer::new(signing_secret),
        })))
    }

    /// Removes what uploads of dead processes left behind.
    ///
    /// In a directory: everything. Only for the one process that uploads there, and before it begins: it
    /// would pull the floor from under uploads in progress. In a bucket, which has several users: what
    /// was begun two days ago or earlier, at any time.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub async fn remove_unfinished(&self, now_ms: i64) -> Result<(), BlobError> {
        match &self.0.engine {
            Engine::Local(store) => store.remove_unfinished().await,
            Engine::S3(store) => {
                let before =
                    jiff::Timestamp::from_millisecond(now_ms.saturating_sub(UNFINISHED_MS))
                        .unwrap_or(jiff::Timestamp::MIN);
                store.remove_unfinished(before).await
            }
        }
    }

    /// Whether other processes may use the same objects.
    pub fn is_shared(&self) -> bool {
        matches!(self.0.engine, Engine::S3(_))
    }

    /// Bytes of all objects together, counted one by one.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub async fn usage(&self) -> Result<u64, BlobError> {
        match &self.0.engine {
            Engine::Local(store) => store.usage().await,
            Engine::S3(store) => store.usage().await,
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
            Engine::Local(store) => {
                let upload = store.begin(&key).await?;
                Ok(Upload(Transfer::Local(upload)))
            }
            Engine::S3(store) => Ok(Upload(Transfer::S3(store.begin(&key)))),
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
            Engine::S3(store) => store.get(&key, range).await,
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
            Engine::S3(store) => store.head(&key).await,
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
            Engine::S3(store) => store.delete(&key).await,
        }
    }

    /// Proves that objects can be written at this moment (health checks).
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub async fn ping(&self) -> Result<(), BlobError> {
        match &self.0.engine {
            Engine::Local(store) => store.ping().await,
            Engine::S3(store) => store.ping().await,
        }
    }

    /// A link that reads `key` for `lifetime_ms` (rounded up to seconds; in S3 at most a week) without
    /// any other credential. `filename` is what a browser will call the file; `origin` is
    /// `scheme://host` of this server, where links lead unless the store serves them itself.
    ///
    /// # Errors
    /// [`BlobError::Key`]; [`BlobError::Unavailable`] when there are no credentials to sign with.
    pub async fn download_link(
        &self,
        origin: &str,
        key: &str,
        filename: &str,
        now_ms: i64,
        lifetime_ms: i64,
    ) -> Result<String, BlobError> {
        let key = Key::parse(key)?;
        match &self.0.engine {
            Engine::S3(store) if !store.links_to_server() => {
                store.download_link(&key, filename, lifetime_ms).await
            }
            _ => {
                let expires_at_ms = now_ms.saturating_add(lifetime_ms);
                Ok(origin.to_owned() + &self.0.signer.sign("GET", &key, filename, expires_at_ms))
            }
        }
    }

    /// A link under which one PUT request stores its body as `key`, for `lifetime_ms`.
    ///
    /// What arrives is whatever the client sent, and until the link expires it may send something else:
    /// choose a key that is used for nothing but this upload, and copy what passes the checks through
    /// [`Blobs::put_begin`] to another. `origin` as in [`Blobs::download_link`]; there the handler of the
    /// path checks the link with [`Blobs::verify_link`] and stores the body itself.
    ///
    /// # Errors
    /// As [`Blobs::download_link`].
    pub async fn upload_link(
        &self,
        origin: &str,
        key: &str,
        now_ms: i64,
        lifetime_ms: i64,
    ) -> Result<String, BlobError> {
        let key = Key::parse(key)?;
        match &self.0.engine {
            Engine::S3(store) if !store.links_to_server() => {
                store.upload_link(&key, lifetime_ms).await
            }
            _ => {
                let expires_at_ms = now_ms.saturating_add(lifetime_ms);
                Ok(origin.to_owned() + &self.0.signer.sign("PUT", &key, "", expires_at_ms))
            }
        }
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
            Engine::S3(store) => f.debug_tuple("Blobs::S3").field(&store.name()).finish(),
        }
    }
}

/// An upload in progress. Dropping it without a commit removes what was written.
pub struct Upload(Transfer);

enum Transfer {
    Local(local::LocalUpload),
    S3(s3::S3Upload),
}

impl Upload {
    /// Appends a piece. Pieces of any size; they are gathered before they are written.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`], for instance when the disk is full. The upload can then only be
    /// dropped.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), BlobError> {
        match &mut self.0 {
            Transfer::Local(upload) => upload.write(piece).await,
            Transfer::S3(upload) => upload.write(piece).await,
        }
    }

    /// Bytes accepted so far.
    pub fn written(&self) -> u64 {
        match &self.0 {
            Transfer::Local(upload) => upload.written(),
            Transfer::S3(upload) => upload.written(),
        }
    }

    /// Makes the object durable, then visible; an older object under the key is replaced in one step.
    /// Returns its size in bytes.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`]: nothing became visible.
    pub async fn commit(self) -> Result<u64, BlobError> {
        match self.0 {
            Transfer::Local(upload) => upload.commit().await,
            Transfer::S3(upload) => upload.commit().await,
        }
    }

    /// Gives the upload up.
    pub fn abort(self) {
        drop(self);
    }
}
