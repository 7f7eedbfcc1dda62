//! What a module may answer to a question: nothing, or one word on one line.

use crate::handler::Reboot;

/// Answers are short; more is junk.
pub(super) const BYTES_MAX: usize = 1024;

/// `Yes` or `No`; nothing is no.
///
/// # Errors
/// What is wrong with the answer.
pub fn yes_or_no(stdout: &[u8]) -> Result<bool, String> {
    match word(stdout)? {
        "Yes" => Ok(true),
        "No" | "" => Ok(false),
        other => Err(format!("the answer {other:?} is neither Yes nor No")),
    }
}

/// The answer to `NeedsArtifactReboot`.
///
/// # Errors
/// What is wrong with the answer.
pub fn reboot(stdout: &[u8]) -> Result<Reboot, String> {
    match word(stdout)? {
        "No" | "" => Ok(Reboot::No),
        "Yes" => Ok(Reboot::Custom),
        "Automatic" => Ok(Reboot::Automatic),
        other => Err(format!(
            "the answer {other:?} is neither Yes, No nor Automatic"
        )),
    }
}

fn word(stdout: &[u8]) -> Result<&str, String> {
    if stdout.len() > BYTES_MAX {
        return Err(format!("the answer is longer than {BYTES_MAX} bytes"));
    }
    let text = std::str::from_utf8(stdout).map_err(|_| "the answer is not text")?;
    let answer = text.strip_suffix('\n').unwrap_or(text);
    if answer.contains('\n') {
        return Err(format!("the answer has more than one line: {text:?}"));
    }
    Ok(answer)
}
