//! Where a password comes from.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::cli::PasswordArgs;

/// Passwords are at most 4096 bytes long; a file beyond that is a mistake.
const FILE_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn read(args: PasswordArgs) -> anyhow::Result<String> {
    if let Some(password) = args.password {
        return Ok(password);
    }
    if let Some(path) = args.password_file {
        return first_line(&path);
    }
    if !std::io::stdin().is_terminal() {
        bail!(
            "no password: give --password-file FILE (or - for standard input), or run the command in a terminal to be asked"
        );
    }
    let password = rpassword::prompt_password("Password: ").context("cannot read the password")?;
    let again = rpassword::prompt_password("Again: ").context("cannot read the password")?;
    if password != again {
        bail!("the passwords differ");
    }
    Ok(password)
}

fn first_line(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read the password file {}", path.display()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => bail!("the password file {} is empty", path.display()),
    }
}
