//! One-time codes by time (RFC 6238) and the picture that puts their secret into a phone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qrcode::{Color, EcLevel, QrCode};
use ring::hmac;

use crate::UseradmError;

/// As long as the digest, which the RFC recommends.
pub(crate) const SECRET_BYTES: usize = 20;
const STEP_MS: i64 = 30_000;
const DIGITS: usize = 6;
const ISSUER: &str = "Ambidex";
/// Pixels of one module, and modules of the quiet zone around the code.
const SCALE: usize = 6;
const QUIET: usize = 4;

/// The code of a time step.
fn code(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    let offset = usize::from(bytes[bytes.len() - 1] & 0x0f);
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    let number = u32::from_be_bytes(word) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// The time step whose code this is: the present one, or one before or after it, as clocks differ.
pub(crate) fn matching_step(secret: &[u8], given: &str, now_ms: i64) -> Option<i64> {
    let given = given.trim();
    if given.len() != DIGITS || !given.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let now = now_ms.div_euclid(STEP_MS);
    [now, now - 1, now + 1]
        .into_iter()
        .find(|step| code(secret, *step) == given)
}

/// What the picture says (the key URI format that authenticator applications read).
pub(crate) fn url(email: &str, secret: &[u8]) -> String {
    let label: String = email
        .bytes()
        .map(|byte| match byte {
            b if b.is_ascii_alphanumeric() || b"-._~@".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect();
    format!(
        "otpauth://totp/{ISSUER}:{label}?secret={}&issuer={ISSUER}&algorithm=SHA1&digits={DIGITS}&period={}",
        base32(secret),
        STEP_MS / 1000
    )
}

fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::new();
    for chunk in bytes.chunks(5) {
        let mut group = [0_u8; 8];
        group[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(group);
        let letters = (chunk.len() * 8).div_ceil(5);
        for letter in 0..letters {
            let index = (bits >> (35 - 5 * letter)) & 31;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

/// A text as a QR code, as a PNG in base64.
///
/// # Errors
/// [`UseradmError::Internal`] when the text does not fit.
pub(crate) fn picture(text: &str) -> Result<String, UseradmError> {
    let internal =
        |reason: String| UseradmError::Internal(format!("cannot draw the code: {reason}"));
    let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::M)
        .map_err(|e| internal(e.to_string()))?;
    let (modules, colors) = (code.width(), code.to_colors());
    let side = (modules + 2 * QUIET) * SCALE;
    let mut pixels = vec![255_u8; side * side];
    for (index, _) in colors
        .iter()
        .enumerate()
        .filter(|(_, c)| **c == Color::Dark)
    {
        let (x, y) = (
            (index % modules + QUIET) * SCALE,
            (index / modules + QUIET) * SCALE,
        );
        for row in y..y + SCALE {
            pixels[row * side + x..row * side + x + SCALE].fill(0);
        }
    }
    let mut file = Vec::new();
    let width = u32::try_from(side).map_err(|e| internal(e.to_string()))?;
    let mut encoder = png::Encoder::new(&mut file, width, width);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder
        .write_header()
        .map_err(|e| internal(e.to_string()))?;
    writer
        .write_image_data(&pixels)
        .map_err(|e| internal(e.to_string()))?;
    writer.finish().map_err(|e| internal(e.to_string()))?;
    Ok(STANDARD.encode(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test values of RFC 6238, appendix B, in six digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = b"12345678901234567890";
        for (second, wanted) in [
            (59_i64, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(secret, second / 30), wanted, "{second}");
            assert_eq!(
                matching_step(secret, wanted, second * 1000),
                Some(second / 30)
            );
        }
    }

    #[test]
    fn clocks_may_differ_by_one_step() {
        let secret = b"12345678901234567890";
        let now_ms = 1_111_111_111_000;
        let step = now_ms / STEP_MS;
        for (offset, fine) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let found = matching_step(secret, &code(secret, step + offset), now_ms);
            assert_eq!(found, fine.then_some(step + offset), "{offset}");
        }
        for bad in ["", "12345", "1234567", "12345a", "１２３４５６"] {
            assert_eq!(matching_step(secret, bad, now_ms), None, "{bad}");
        }
    }

    /// The test values of RFC 4648, without padding.
    #[test]
    fn base32_is_that_of_the_standard() {
        for (text, wanted) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(text.as_bytes()), wanted);
        }
        assert_eq!(
            url("a+b@c.d", b"foobar"),
            "otpauth://totp/Ambidex:a%2Bb@c.d?secret=MZXW6YTBOI&issuer=Ambidex&algorithm=SHA1&digits=6&period=30"
        );
    }
}
