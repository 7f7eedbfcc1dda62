//! The first key of a PEM text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::elliptic_curve::zeroize::Zeroizing;

use super::KeyError;

/// A PEM block: its label and its content, wiped from memory after use.
pub(super) struct Block {
    pub label: String,
    pub der: Zeroizing<Vec<u8>>,
}

/// Longest key file. The PEM text of an 8192-bit RSA private key has 6.4 kB; the rest is for
/// comments before it.
const PEM_BYTES_MAX: usize = 64 * 1024;

/// Finds the first block that is a key. Text before it, and a block of curve parameters as
/// `openssl ecparam -genkey` writes, are passed over.
pub(super) fn first_block(text: &str) -> Result<Block, KeyError> {
    if text.len() > PEM_BYTES_MAX {
        return Err(KeyError::new(format!(
            "the key file has more than {PEM_BYTES_MAX} bytes"
        )));
    }
    let mut rest = text;
    loop {
        let Some((_, after)) = rest.split_once("-----BEGIN ") else {
            return Err(KeyError::new(
                "there is no PEM block; a key file begins with a line such as -----BEGIN PUBLIC KEY-----",
            ));
        };
        let (label, after) = after
            .split_once("-----")
            .filter(|(label, _)| !label.is_empty() && label.len() <= 64 && !label.contains('\n'))
            .ok_or_else(|| KeyError::new("the first line of the PEM block is damaged"))?;
        let end = format!("-----END {label}-----");
        let (body, after) = after
            .split_once(&end)
            .ok_or_else(|| KeyError::new(format!("the PEM block has no line {end}")))?;
        if label == "EC PARAMETERS" {
            rest = after;
            continue;
        }
        if body.contains("ENCRYPTED") || label == "ENCRYPTED PRIVATE KEY" {
            return Err(KeyError::new(
                "the private key is encrypted; write it without a passphrase (openssl pkey -in KEY -out NEWKEY)",
            ));
        }
        let packed: Zeroizing<String> =
            Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        let der = STANDARD
            .decode(packed.as_bytes())
            .map_err(|_| KeyError::new(format!("the PEM block {label} is not base64")))?;
        return Ok(Block {
            label: label.to_owned(),
            der: Zeroizing::new(der),
        });
    }
}
