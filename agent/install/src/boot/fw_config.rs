//! `fw_env.config`: where the U-Boot environment lies (format of libubootenv, line form).

use std::path::PathBuf;

/// Largest environment taken; U-Boot boards use 8 to 256 KiB.
const ENV_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One copy of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub device: PathBuf,
    /// From the start; from the end when negative.
    pub offset: i64,
    pub bytes: usize,
}

/// Parses one or two lines `DEVICE OFFSET SIZE [SECTOR_SIZE [SECTORS]]`. Offsets are decimal or
/// `0x…`; sizes are hexadecimal with or without `0x`, as libubootenv reads them.
///
/// # Errors
/// A text that names the line and what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<Location>, String> {
    let mut locations = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let location =
            parse_line(line).map_err(|problem| format!("line {}: {problem}", number + 1))?;
        locations.push(location);
    }
    match locations.as_slice() {
        [_] => Ok(locations),
        [first, second] if first.bytes != second.bytes => Err(format!(
            "the two copies differ in size: {} and {} bytes",
            first.bytes, second.bytes
        )),
        [first, second] if first.device == second.device && first.offset == second.offset => {
            Err("both copies are at the same place".to_owned())
        }
        [_, _] => Ok(locations),
        [] => Err("it names no environment".to_owned()),
        more => Err(format!(
            "it names {} copies; one or two are possible",
            more.len()
        )),
    }
}

fn parse_line(line: &str) -> Result<Location, String> {
    let mut fields = line.split_whitespace();
    let (Some(device), Some(offset), Some(size)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(format!("{line:?} is not `DEVICE OFFSET SIZE`"));
    };
    if !device.starts_with('/') {
        return Err(format!("{device:?} is not an absolute path"));
    }
    let offset = parse_offset(offset).ok_or_else(|| format!("{offset:?} is not an offset"))?;
    let hex = size.trim_start_matches("0x").trim_start_matches("0X");
    let bytes = usize::from_str_radix(hex, 16)
        .ok()
        .filter(|bytes| (16..=ENV_BYTES_MAX).contains(bytes))
        .ok_or_else(|| {
            format!("{size:?} is not a hexadecimal size from 10 to {ENV_BYTES_MAX:x}")
        })?;
    Ok(Location {
        device: device.into(),
        offset,
        bytes,
    })
}

fn parse_offset(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let value = match hex {
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    (value >= 0).then_some(if negative { -value } else { value })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn real_configurations_are_read() {
        let text = "# Device Offset Size\n/dev/mmcblk0 0x80000 0x4000\n\n/dev/mmcblk0 -0x20000 4000 200 1\n";
        let locations = parse(text).unwrap();
        assert_eq!(
            locations[0],
            Location {
                device: "/dev/mmcblk0".into(),
                offset: 0x80000,
                bytes: 0x4000
            }
        );
        assert_eq!(
            (locations[1].offset, locations[1].bytes),
            (-0x20000, 0x4000)
        );
        assert_eq!(parse("/boot/uboot.env 512 0x1000").unwrap()[0].offset, 512);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, wanted) in [
            ("", "no environment"),
            ("\n/dev/a 0x0", "line 2"),
            ("a 0 10", "absolute"),
            ("/a x 10", "offset"),
            ("/a --1 10", "offset"),
            ("/a 0 0", "size"),
            ("/a 0 zz", "size"),
            ("/a 0 400001", "size"),
            ("/a 0 100\n/b 0 200", "differ in size"),
            ("/a 0 100\n/a 0 100", "same place"),
            ("/a 0 100\n/b 0 100\n/c 0 100", "3 copies"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
        assert!(parse("/a 0 400000").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn parsing_anything_never_panics(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }
    }
}
