//! Which names and texts an artifact may carry.

use crate::limits::{ARTIFACT_NAME_BYTES_MAX, FILE_NAME_BYTES_MAX, PAYLOAD_NAME_CHARS_MAX};

/// States that a script in an artifact may belong to (artifact-format reference, section 5).
/// Scripts of the states Idle, Sync and Download live on the device only.
pub const SCRIPT_STATES: [&str; 6] = [
    "ArtifactInstall",
    "ArtifactReboot",
    "ArtifactCommit",
    "ArtifactRollback",
    "ArtifactRollbackReboot",
    "ArtifactFailure",
];

/// Checks a payload file name: letters, digits, `_`, `-`, `.`, `,`; at most 90 of them; neither
/// `.` nor `..`. Returns what is wrong.
pub fn check_payload_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the file name is empty".into());
    }
    if name.len() > PAYLOAD_NAME_CHARS_MAX {
        return Err(format!(
            "the file name has {} characters, {PAYLOAD_NAME_CHARS_MAX} are the most",
            name.chars().count()
        ));
    }
    let permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.,".contains(&byte);
    if name == "." || name == ".." || !name.bytes().all(permitted) {
        return Err(format!(
            "the file name {name:?} is not permitted; letters, digits, `_`, `-`, `.` and `,` are"
        ));
    }
    Ok(())
}

/// Checks the name of a state script: `State_Action_NN` or `State_Action_NN_text`, with a state of
/// [`SCRIPT_STATES`], the action `Enter`, `Leave` or `Error`, two digits, and a text without white
/// space or slash. Returns what is wrong.
pub fn check_script_name(name: &str) -> Result<(), String> {
    const FORM: &str = "a script is named STATE_ACTION_NN or STATE_ACTION_NN_text, for example \
                        ArtifactInstall_Enter_01_check";
    if name.len() > FILE_NAME_BYTES_MAX {
        return Err(format!(
            "the script name has {} bytes, {FILE_NAME_BYTES_MAX} are the most",
            name.len()
        ));
    }
    let mut parts = name.splitn(4, '_');
    let (Some(state), Some(action), Some(order)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(format!("{name:?}: {FORM}"));
    };
    if !SCRIPT_STATES.contains(&state) {
        return Err(format!(
            "{name:?}: {state:?} is not a state of scripts in artifacts; those are {}",
            SCRIPT_STATES.join(", ")
        ));
    }
    if !["Enter", "Leave", "Error"].contains(&action) {
        return Err(format!(
            "{name:?}: the action is Enter, Leave or Error; {FORM}"
        ));
    }
    if order.len() != 2 || !order.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{name:?}: the order is two digits; {FORM}"));
    }
    if let Some(text) = parts.next()
        && (text.is_empty()
            || text
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || c == '/' || c == '\0'))
    {
        return Err(format!(
            "{name:?}: the text after the order has neither white space nor slash"
        ));
    }
    Ok(())
}

/// Checks an artifact name or group: 1 to 256 bytes, all printable. Returns what is wrong.
pub fn check_artifact_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty".into());
    }
    if name.len() > ARTIFACT_NAME_BYTES_MAX {
        return Err(format!(
            "has {} bytes, {ARTIFACT_NAME_BYTES_MAX} are the most",
            name.len()
        ));
    }
    if let Some(bad) = name.chars().find(|c| !is_printable(*c)) {
        return Err(format!("has the unprintable character {bad:?}"));
    }
    Ok(())
}

/// Checks a payload type: it names an update module, which is a file on the device.
pub fn check_payload_type(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the payload type is empty".into());
    }
    if name.len() > FILE_NAME_BYTES_MAX {
        return Err(format!(
            "the payload type has {} bytes, {FILE_NAME_BYTES_MAX} are the most",
            name.len()
        ));
    }
    if name == "." || name == ".." || name.chars().any(|c| c == '/' || !is_printable(c)) {
        return Err(format!(
            "the payload type {name:?} is not permitted; it names an update module, so it is a \
             printable file name without slash"
        ));
    }
    Ok(())
}

/// Whether a terminal shows the character as itself. Excludes control, format and white-space
/// characters other than the space, private use and non-characters.
fn is_printable(c: char) -> bool {
    if c == ' ' {
        return true;
    }
    !(c.is_control()
        || c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}'
            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_names_at_and_past_the_limit() {
        assert!(check_payload_name(&"a".repeat(90)).is_ok());
        assert!(check_payload_name(&"a".repeat(91)).is_err());
        for bad in [
            "", ".", "..", "a/b", "/a", "a b", "ä", "a\0", "a\n", "../evil", "a:b",
        ] {
            assert!(check_payload_name(bad).is_err(), "{bad:?}");
        }
        for good in ["rootfs.ext4", "a_b-c.d,e", "..a", "-"] {
            assert!(check_payload_name(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn script_names() {
        for good in [
            "ArtifactInstall_Enter_00",
            "ArtifactRollbackReboot_Leave_99_why-not_twice",
            "ArtifactFailure_Error_10_x",
        ] {
            assert!(check_script_name(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "ArtifactInstall",
            "ArtifactInstall_Enter",
            "ArtifactInstall_Enter_1",
            "ArtifactInstall_Enter_001",
            "ArtifactInstall_Enter_01_",
            "ArtifactInstall_Enter_01_a b",
            "ArtifactInstall_Enter_01_a/b",
            "ArtifactInstall_enter_01",
            "Download_Enter_01",
            "Idle_Enter_01",
            "xArtifactInstall_Enter_01",
            "../ArtifactInstall_Enter_01",
        ] {
            assert!(check_script_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn artifact_names_at_and_past_the_limit() {
        assert!(check_artifact_name(&"n".repeat(256)).is_ok());
        assert!(check_artifact_name(&"n".repeat(257)).is_err());
        assert!(check_artifact_name("Straße 7, Haus ß").is_ok());
        for bad in ["", "a\tb", "a\nb", "a\u{202e}b", "a\u{a0}b", "\u{7f}"] {
            assert!(check_artifact_name(bad).is_err(), "{bad:?}");
        }
    }
}
