//! `deployment show|continue|pause|abort`: asks the running daemon over its control socket.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use crate::{
    config::Config,
    daemon::{
        PresenceError,
        control::{Answer, Request, socket_path},
    },
};

/// The daemon answers at once; it may be busy with another caller.
const LIMIT: Duration = Duration::from_secs(20);

/// Nothing the wish could be about.
const NOTHING: u8 = 2;

pub(super) fn run(config: &Config, request: Request) -> Result<u8, String> {
    let answer = ask(config, request)?;
    if let Some(error) = &answer.error {
        log::error!("{error}");
        return Ok(if answer.nothing { NOTHING } else { 1 });
    }
    super::print(&text(&answer));
    Ok(0)
}

fn ask(config: &Config, request: Request) -> Result<Answer, String> {
    let state = &config.roots.state;
    let path = socket_path(state);
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            PresenceError::Absent(state.clone()).to_string()
        }
        _ => PresenceError::Unreachable {
            state: state.clone(),
            reason: format!("'{}': {error}; run this as root", path.display()),
        }
        .to_string(),
    };
    let mut stream = UnixStream::connect(&path).map_err(failed)?;
    let mut line = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let mut answer = String::new();
    stream
        .set_read_timeout(Some(LIMIT))
        .and_then(|()| stream.set_write_timeout(Some(LIMIT)))
        .and_then(|()| stream.write_all(&line))
        .and_then(|()| BufReader::new(&stream).read_line(&mut answer))
        .map_err(failed)?;
    serde_json::from_str(&answer)
        .map_err(|error| format!("the daemon's answer is not understood: {error}"))
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    let mut say = |key: &str, value: &str| {
        writeln!(text, "{key:<16}{value}").expect("invariant: writing to a String cannot fail");
    };
    say("deployment", answer.deployment.as_deref().unwrap_or("none"));
    if let (Some(gate), Some(why)) = (&answer.held_before, &answer.text) {
        say("held before", &format!("{gate}: {why}"));
    }
    if answer.ending {
        say("ending", "yes, at its next gate at the latest");
    }
    say("paused", if answer.paused { "yes" } else { "no" });
    text
}
