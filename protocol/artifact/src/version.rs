//! The `version` member.

use serde::Deserialize;

use crate::error::Error;

/// What is written, byte for byte (artifact-format reference, section 2).
pub(crate) const VERSION_3: &[u8; 31] = br#"{"format":"mender","version":3}"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    format: String,
    version: u64,
}

/// Reads the member; only versions 2 (where accepted) and 3 come back.
pub(crate) fn parse(bytes: &[u8], accept_v2: bool) -> Result<u8, Error> {
    let version: Version = serde_json::from_slice(bytes).map_err(|error| {
        Error::malformed(
            "version",
            format!("not the JSON object of format and version ({error})"),
        )
    })?;
    if version.format != "mender" {
        return Err(Error::Unsupported(format!(
            "unsupported format {:?}: artifacts have the format \"mender\"",
            version.format
        )));
    }
    match version.version {
        3 => Ok(3),
        2 if accept_v2 => Ok(2),
        2 => Err(Error::Unsupported(
            "unsupported version 2: this reader takes version 3; write the artifact again with a current tool".into(),
        )),
        other => Err(Error::Unsupported(format!(
            "unsupported version {other}: versions 2 and 3 can be read; write the artifact again with a current tool"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256Digest;

    #[test]
    fn the_written_form_has_the_reference_digest() {
        assert_eq!(
            Sha256Digest::of(VERSION_3).to_string(),
            "96bcd965947569404798bcbdb614f103db5a004eb6e364cfc162c146890ea35b"
        );
    }

    #[test]
    fn versions() {
        assert!(matches!(parse(VERSION_3, false), Ok(3)));
        assert!(matches!(
            parse(b"{ \"version\": 2,\n\"format\": \"mender\" }", true),
            Ok(2)
        ));
        for bad in [
            &br#"{"format":"mender","version":2}"#[..],
            br#"{"format":"mender","version":1}"#,
            br#"{"format":"mender","version":4}"#,
            br#"{"format":"mender","version":"3"}"#,
            br#"{"format":"mender","version":3.0}"#,
            br#"{"format":"mander","version":3}"#,
            br#"{"format":"mender","version":3,"extra":1}"#,
            br#"{"format":"mender","version":3} x"#,
            br#"{"format":"mender"}"#,
            b"",
            b"3",
        ] {
            assert!(
                parse(bad, false).is_err(),
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
    }
}
