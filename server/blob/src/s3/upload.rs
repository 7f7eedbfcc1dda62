//! An upload of unknown length: parts of one size, the next gathered while the last one travels.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload,
};
use tokio::task::JoinHandle;

use super::{Place, error};
use crate::BlobError;

/// Bytes of each part but the last. S3 takes at least 5 MiB and at most 10 000 parts: this is enough for
/// artifacts of 78 GiB, and two of them are what an upload needs of memory.
const PART_BYTES: usize = 8 << 20;
const PARTS_MAX: usize = 10_000;
/// Shown by stores that do not change headers for a link.
const CONTENT_TYPE: &str = "application/vnd.mender-artifact";

pub(crate) struct S3Upload {
    place: Arc<Place>,
    path: Path,
    /// Smaller than a part altogether.
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    written: u64,
    parts: usize,
    open: Option<Open>,
}

/// What the store knows of; nobody sees it before it is complete.
struct Open {
    upload: Box<dyn MultipartUpload>,
    in_flight: Option<JoinHandle<object_store::Result<()>>>,
}

impl Open {
    async fn landed(&mut self, place: &Place) -> Result<(), BlobError> {
        // Taken only when done: a caller that stops waiting leaves it to be waited for.
        let Some(part) = &mut self.in_flight else {
            return Ok(());
        };
        let outcome = part.await;
        self.in_flight = None;
        outcome
            .map_err(|e| place.unavailable(&e))?
            .map_err(|e| error(place, &e))
    }
}

fn attributes() -> Attributes {
    Attributes::from_iter([(Attribute::ContentType, CONTENT_TYPE)])
}

impl S3Upload {
    pub(super) fn new(place: Arc<Place>, path: Path) -> S3Upload {
        S3Upload {
            place,
            path,
            gathered: Vec::new(),
            gathered_bytes: 0,
            written: 0,
            parts: 0,
            open: None,
        }
    }

    pub(crate) async fn write(&mut self, mut piece: Bytes) -> Result<(), BlobError> {
        self.written += piece.len() as u64;
        while self.gathered_bytes + piece.len() >= PART_BYTES {
            let rest = piece.split_off(PART_BYTES - self.gathered_bytes);
            self.gather(piece);
            piece = rest;
            self.send().await?;
        }
        self.gather(piece);
        Ok(())
    }

    fn gather(&mut self, piece: Bytes) {
        self.gathered_bytes += piece.len();
        if !piece.is_empty() {
            self.gathered.push(piece);
        }
    }

    fn payload(&mut self) -> PutPayload {
        self.gathered_bytes = 0;
        PutPayload::from_iter(std::mem::take(&mut self.gathered))
    }

    async fn send(&mut self) -> Result<(), BlobError> {
        if self.parts == PARTS_MAX {
            return Err(BlobError::Unavailable(format!(
                "{}: an object has at most {PARTS_MAX} parts of {PART_BYTES} bytes",
                self.place
            )));
        }
        if self.open.is_none() {
            let options = PutMultipartOptions {
                attributes: attributes(),
                ..PutMultipartOptions::default()
            };
            let upload = self
                .place
                .store
                .put_multipart_opts(&self.path, options)
                .await
                .map_err(|e| error(&self.place, &e))?;
            self.open = Some(Open {
                upload,
                in_flight: None,
            });
        }
        let payload = self.payload();
        self.parts += 1;
        if let Some(open) = &mut self.open {
            open.landed(&self.place).await?;
            open.in_flight = Some(tokio::spawn(open.upload.put_part(payload)));
        }
        Ok(())
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) async fn commit(mut self) -> Result<u64, BlobError> {
        if self.open.is_none() {
            let options = PutOptions {
                attributes: attributes(),
                ..PutOptions::default()
            };
            let payload = self.payload();
            self.place
                .store
                .put_opts(&self.path, payload, options)
                .await
                .map_err(|e| error(&self.place, &e))?;
            return Ok(self.written);
        }
        if self.gathered_bytes > 0 {
            self.send().await?;
        }
        if let Some(open) = &mut self.open {
            open.landed(&self.place).await?;
            open.upload
                .complete()
                .await
                .map_err(|e| error(&self.place, &e))?;
        }
        self.open = None;
        Ok(self.written)
    }
}

impl Drop for S3Upload {
    /// The store keeps parts until it is told; should this process die before, the next start tells it.
    fn drop(&mut self) {
        let (Some(mut open), Ok(runtime)) =
            (self.open.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let place = Arc::clone(&self.place);
        runtime.spawn(async move {
            if let Some(part) = open.in_flight.take() {
                part.abort();
                let _ = part.await;
            }
            if let Err(e) = open.upload.abort().await {
                tracing::warn!(error = %error(&place, &e), "parts of an upload are left in the store");
            }
        });
    }
}
