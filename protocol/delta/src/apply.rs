//! From the old image and the difference to the new image.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::header::{HEADER_BYTES, Header, HeaderError};
use crate::{Base, step};

/// Handed on at once.
const PIECE_BYTES: usize = 128 * 1024;

/// Why there is no new image. What was handed on before must not be put to use.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError<E> {
    /// The difference cannot be read.
    #[error("the difference cannot be read: {0}")]
    Input(io::Error),
    /// It is none.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// It breaks its own rules.
    #[error("the difference is damaged: {0}")]
    Damaged(&'static str),
    /// The old image cannot be read.
    #[error("the old image cannot be read: {0}")]
    Old(io::Error),
    /// The old image is another one, or was written to.
    #[error(
        "what came out is not the new image, so the old one is not what the difference starts from: it was written to since it was installed"
    )]
    OtherOld,
    /// Who takes the new image does not.
    #[error("the new image was not taken")]
    Taker(E),
}

/// Reads the header; what follows are the steps.
///
/// # Errors
/// [`ApplyError::Input`], [`ApplyError::Header`].
fn header<E>(input: &mut impl Read) -> Result<Header, ApplyError<E>> {
    let mut bytes = [0; HEADER_BYTES];
    input.read_exact(&mut bytes).map_err(ApplyError::Input)?;
    Ok(Header::decode(&bytes)?)
}

/// Puts the new image together, piece by piece. `accept` sees the header before the first piece, and may refuse it;
/// `taker` gets the pieces in order. The whole of `input` is read.
///
/// # Errors
/// [`ApplyError`]; only without one has the new image its digest.
pub fn apply<E>(
    input: &mut impl Read,
    old: &impl Base,
    accept: impl FnOnce(&Header) -> Result<(), E>,
    mut taker: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Header, ApplyError<E>> {
    let header = header(input)?;
    accept(&header).map_err(ApplyError::Taker)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = header.new.bytes;
    let mut hasher = Sha256::new();
    loop {
        let mut kind = [0];
        input.read_exact(&mut kind).map_err(ApplyError::Input)?;
        if kind[0] == step::END {
            break;
        }
        let mut offset = match kind[0] {
            step::COPY => number(input)?,
            step::DATA | step::ZEROS => 0,
            _ => return Err(ApplyError::Damaged("a step of an unknown kind")),
        };
        let mut length = number(input)?;
        if length == 0 {
            return Err(ApplyError::Damaged("an empty step"));
        }
        left = left
            .checked_sub(length)
            .ok_or(ApplyError::Damaged("more than the new image holds"))?;
        let within = offset
            .checked_add(length)
            .is_some_and(|end| end <= header.old.bytes);
        if kind[0] == step::COPY && !within {
            return Err(ApplyError::Damaged(
                "a part beyond the end of the old image",
            ));
        }
        if kind[0] == step::ZEROS {
            piece.fill(0);
        }
        while length > 0 {
            let count = usize::try_from(length).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
            let Some(part) = piece.get_mut(..count) else {
                return Err(ApplyError::Damaged("a piece of no size"));
            };
            match kind[0] {
                step::COPY => old.read_exact_at(part, offset).map_err(ApplyError::Old)?,
                step::DATA => input.read_exact(part).map_err(ApplyError::Input)?,
                _ => {}
            }
            hasher.update(&*part);
            taker(part).map_err(ApplyError::Taker)?;
            offset += count as u64;
            length -= count as u64;
        }
    }
    if left > 0 {
        return Err(ApplyError::Damaged("less than the new image holds"));
    }
    // whoever checks the input as a whole must see its end
    if input.read(&mut [0]).map_err(ApplyError::Input)? > 0 {
        return Err(ApplyError::Damaged("something after the end"));
    }
    let sha256: [u8; 32] = hasher.finalize().into();
    if sha256 != header.new.sha256 {
        return Err(ApplyError::OtherOld);
    }
    Ok(header)
}

fn number<E>(input: &mut impl Read) -> Result<u64, ApplyError<E>> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes).map_err(ApplyError::Input)?;
    Ok(u64::from_le_bytes(bytes))
}
