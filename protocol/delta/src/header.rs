//! What a difference is between.

/// SHA-256.
pub type Digest = [u8; 32];

const MAGIC: &[u8; 8] = b"AMBXDLT1";
const IMAGE_BYTES: usize = 8 + 32;

/// Length of the header.
pub const HEADER_BYTES: usize = MAGIC.len() + 2 * IMAGE_BYTES;

/// One of the two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Size in bytes.
    pub bytes: u64,
    /// Digest of the content.
    pub sha256: Digest,
}

/// Begins a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it starts from.
    pub old: Image,
    /// What it leads to.
    pub new: Image,
}

/// Not the beginning of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no difference between images of a format that is known here (AMBXDLT1)")]
pub struct HeaderError;

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for image in [&self.old, &self.new] {
            bytes.extend_from_slice(&image.bytes.to_le_bytes());
            bytes.extend_from_slice(&image.sha256);
        }
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(HeaderError)?;
        let (old, new) = rest.split_at(IMAGE_BYTES);
        Ok(Self {
            old: image(old).ok_or(HeaderError)?,
            new: image(new).ok_or(HeaderError)?,
        })
    }
}

fn image(bytes: &[u8]) -> Option<Image> {
    let (length, sha256) = bytes.split_first_chunk()?;
    Some(Image {
        bytes: u64::from_le_bytes(*length),
        sha256: sha256.try_into().ok()?,
    })
}
