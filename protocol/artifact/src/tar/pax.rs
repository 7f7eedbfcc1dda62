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
    let bad = |problem: &str| Error::malformed(place, format!("an extended header is damaged: {problem}"));
    let mut records = Records::default();
    let mut rest = text;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(|| bad("no length"))?;
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
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(|| bad("no key"))?;
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
            _ if key.starts_with(b"GNU.sparse.") => return Err(bad("sparse files are not permitted")),
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
    use super::*;

    #[test]
    fn records() {
        let good = parse(b"17 path=some/name\n30 mtime=1700000000.123456789\n13 size=0042\n", "x");
        let good = match good {
            Ok(good) => good,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(good.path.as_deref(), Some("some/name"));
        assert_eq!(good.size, Some(42));
        assert_eq!(good.mtime_s, Some(1_700_000_000));
        for bad in [
            &b"x path=a\n"[..],
            b"9 path=a\n",
            b"11 path=a\n",
            b"10 path=a",
            b"10 path=a\n10 path=b\n",
            b"8 size=\n",
            b"10 size=-1\n",
            b"31 size=99999999999999999999999\n",
            b"14 linkpath=a\n",
            b"22 GNU.sparse.major=1\n",
            b"4294967296 path=a\n",
            b"0 path=a\n",
        ] {
            assert!(parse(bad, "x").is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
