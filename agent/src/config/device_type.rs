//! The device type: one file with the one line `device_type=VALUE`.

use ambidex_platform::fs;

use super::{Config, ConfigError};

const FILE_BYTES_MAX: u64 = 4096;

/// Reads the device type; read anew whenever it is needed.
///
/// # Errors
/// Names the file and what it must hold.
pub fn device_type(config: &Config) -> Result<String, ConfigError> {
    let file = &config.device_type_file;
    let unreadable = |reason: String| ConfigError::Unreadable {
        file: file.clone(),
        reason: format!(
            "{reason}; it must hold the one line device_type=VALUE, and VALUE is what artifacts name as compatible"
        ),
    };
    let bytes = fs::read_bounded(file, FILE_BYTES_MAX)
        .map_err(|error| unreadable(error.cause.to_string()))?;
    parse(&bytes).ok_or_else(|| unreadable("it holds something else".to_owned()))
}

fn parse(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let value = line.strip_prefix("device_type=")?;
    (!value.is_empty() && !value.chars().any(char::is_control)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_line() {
        assert_eq!(parse(b"device_type=qemu x\n").as_deref(), Some("qemu x"));
        assert_eq!(parse(b"device_type=qemu").as_deref(), Some("qemu"));
        for bad in [
            &b"device_type=\n"[..],
            b"qemu",
            b"device_type=a\nb=c\n",
            b"device_type=a\n\n",
            b"\xff",
        ] {
            assert_eq!(parse(bad), None);
        }
    }
}
