//! Extended header records: `LENGTH KEY=VALUE\n`.

use crate::error::Error;

/// The records that mean something to us. Others (owner, access time, attributes) are skipped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub path: Option<String>,
    pub size: Option<u64>,
    pub mtime_s: Option<u64>,
}

pub(super) fn parse(text: &[u8], place: &str) -> Result<Records, Error> {
    let bad = |problem: &str| {
        Error::malformed(place, format!("an extended header is damaged: {problem}"))
    };
    let mut records = Records::default();
    let mut rest = text;
    while !rest.is_empty() {
        let space = rest
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(|| bad("no length"))?;
        let length: usize = std::str::from_utf8(&rest[..space])
            .ok()
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| bad("bad length"))?;
        if length <= space + 1 || length > rest.len() || rest[length - 1] != b'\n' {
            return Err(bad("a record does not end where its length says"));
        }
        let record = &rest[space + 1..length - 1];
        rest = &rest[length..];
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(|| bad("no key"))?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => {
                let path = std::str::from_utf8(value).map_err(|_| bad("the path is not UTF-8"))?;
                if path.is_empty() || path.contains('\0') || records.path.is_some() {
                    return Err(bad("the path is empty, has a NUL or occurs twice"));
                }
                records.path = Some(path.to_owned());
            }
            b"size" => {
                let size = decimal(value).ok_or_else(|| bad("bad size"))?;
                if records.size.replace(size).is_some() {
                    return Err(bad("the size occurs twice"));
                }
            }
            b"mtime" => {
                // Fractions are cut off; times before 1970 count as 1970.
                let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                records.mtime_s = match whole.first() {
                    Some(b'-') => Some(0),
                    _ => Some(decimal(whole).ok_or_else(|| bad("bad modification time"))?),
                };
            }
            b"linkpath" => return Err(bad("links are not permitted")),
            b"hdrcharset" => return Err(bad("character sets are not supported")),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(bad("sparse files are not permitted"));
            }
            _ => {}
        }
    }
    Ok(records)
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]

    use super::*;

    #[test]
    fn known_records_are_taken_and_others_passed_over() {
        let text =
            b"18 path=some/name\n30 mtime=1700000000.123456789\n13 size=0042\n14 uname=root\n";
        let good = parse(text, "x").unwrap();
        assert_eq!(good.path.as_deref(), Some("some/name"));
        assert_eq!((good.size, good.mtime_s), (Some(42), Some(1_700_000_000)));
        assert_eq!(parse(b"12 mtime=-5\n", "x").unwrap().mtime_s, Some(0));
        assert_eq!(parse(b"", "x").unwrap(), Records::default());
    }

    #[test]
    fn damaged_and_forbidden_records() {
        for (bad, why) in [
            (&b"x path=a\n"[..], "bad length"),
            (b" path=a\n", "bad length"),
            (b"+9 path=a\n", "bad length"),
            (b"9 path=a\n10 pat", "does not end"),
            (b"8 path=a\n", "does not end"),
            (b"11 path=a\n", "does not end"),
            (b"9 path=ab", "does not end"),
            (b"0 path=a\n", "does not end"),
            (b"99999999999999999999999 path=a\n", "bad length"),
            (b"9 path=a\n9 path=b\n", "twice"),
            (b"8 path=\n", "empty"),
            (b"9 path=\0\n", "NUL"),
            (b"9 path=\xff\n", "UTF-8"),
            (b"7 path\n", "no key"),
            (b"8 size=\n", "bad size"),
            (b"11 size=-1\n", "bad size"),
            (b"29 size=99999999999999999999\n", "bad size"),
            (b"14 linkpath=a\n", "links"),
            (b"22 GNU.sparse.major=1\n", "sparse"),
            (b"21 hdrcharset=BINARY\n", "character sets"),
        ] {
            let message = parse(bad, "x").unwrap_err().to_string();
            assert!(
                message.contains(why),
                "{}: {message}",
                String::from_utf8_lossy(bad)
            );
        }
    }
}
