//! `ambidex terminal`

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use ambidex_wire::session::{Message, PROTO_CONTROL, PROTO_SHELL, control, shell};
use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval_at, sleep_until};

use super::device;
use super::screen::Screen;
use super::socket::{Session, plain};
use super::stdio::{self, Output};
use super::tty::{self, Raw};
use crate::exit::Failure;
use crate::fleet::connection::Connection;

/// The size that the device is told where there is no terminal.
const SIZE: (u16, u16) = (80, 24);
/// Input of one message: what every device reads, with room for the envelope.
const INPUT_BYTES: usize = 4096;
/// How long the end of a shell may take to be told after the user has left.
const LEAVE: Duration = Duration::from_millis(200);
/// What ends the input of a shell at the beginning of a line, and elsewhere.
const END: &[u8] = b"\x04";
const LINE_END_AND_END: &[u8] = b"\n\x04";
/// How long piped input waits for a first sign of the shell. Typed at before it reads, a shell of the
/// reference's device may lose the input for good.
const PROMPT: Duration = Duration::from_secs(2);
/// How soon the end of the input is said again, and how rarely in the end: the first may have ended a
/// program that the shell had started.
const END_AGAIN: Duration = Duration::from_secs(1);
const END_AGAIN_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
The session is a shell on the device, as the user that its configuration names. Its output is
recorded by the server (see: ambidex session list); what is typed is not.

Ctrl-] ends the session at once, whatever runs in it. The end of the shell ends it too.

Without a terminal, commands come from standard input, and the end of the input ends the shell:
    echo 'uname -a' | ambidex terminal 02:00:00:00:00:01

Exit codes: 0 the shell ended or you left, 1 the device or the server ended the session, 2 usage,
3 not logged in or not permitted. What the shell's last command returned is not known.

Examples:
    ambidex terminal 5a8f0c9e-0000-4000-8000-000000000001
    ambidex terminal 5a8f              (the beginning is enough while no other device has it)
    ambidex terminal 02:00:00:00:00:01 (a value of the identity)
    ambidex terminal --escape none pump-7")]
pub struct Arguments {
    /// Id of the device, a value of its identity, or the beginning of either.
    device: String,
    /// Key that ends the session: a letter or one of [ ] \ ^ _, pressed with Ctrl; `none` for no key.
    #[arg(long, value_name = "KEY", default_value = "]", value_parser = Escape::parse)]
    escape: Escape,
    #[command(flatten)]
    connection: Connection,
}

/// The key that ends the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Escape(Option<u8>);

impl Escape {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let key = text
            .strip_prefix("Ctrl-")
            .or_else(|| text.strip_prefix('^').filter(|rest| !rest.is_empty()))
            .unwrap_or(text);
        match key.as_bytes() {
            [byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'[' | b']' | b'\\' | b'^' | b'_')] => {
                Ok(Self(Some(byte.to_ascii_uppercase() & 0x1f)))
            }
            _ => Err("a letter or one of [ ] \\ ^ _, or none".to_owned()),
        }
    }

    /// What goes to the device, and whether the user leaves after it.
    fn split(self, input: &[u8]) -> (&[u8], bool) {
        let at = self
            .0
            .and_then(|key| input.iter().position(|byte| *byte == key));
        match at {
            Some(at) => (&input[..at], true),
            None => (input, false),
        }
    }

    fn name(self) -> Option<String> {
        self.0.map(|key| format!("Ctrl-{}", char::from(key | 0x40)))
    }
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The user left.
    Left,
    /// The shell ended by itself.
    Shell,
    /// Standard output takes nothing any more.
    NoReader,
}

impl Arguments {
    pub async fn run(self) -> Result<(), Failure> {
        let api = self.connection.api()?;
        let device = device::find(&api, &self.device).await?;
        let doing = format!("terminal of {}", device.name);
        let mut session = Session::with_device(&api, &device.id, &doing)
            .await
            .map_err(|refused| refused.failure)?;
        let interactive = io::stdin().is_terminal();
        start(&mut session, &doing).await?;
        if interactive {
            let leave = match self.escape.name() {
                Some(key) => format!("{key} ends the session"),
                None => "the end of the shell ends the session".to_owned(),
            };
            eprintln!("Connected to {}; {leave}.", device.name);
        }
        let escape = if interactive {
            self.escape
        } else {
            Escape(None)
        };
        let mut shell = Shell {
            escape,
            interactive,
            output: Some(Output::start()),
            screen: Screen::default(),
            ready: interactive,
            pending: VecDeque::new(),
            last: b'\n',
        };
        let outcome = {
            // Restores the terminal on every way out.
            let _raw = if interactive {
                Some(Raw::enter().context("cannot change the terminal")?)
            } else {
                None
            };
            let outcome = shell.converse(&mut session).await;
            shell.rest().await;
            outcome
        };
        match outcome {
            Ok(End::Left) => {
                stop(&mut session).await;
                session.close().await;
                if interactive {
                    eprintln!("\nYou have left the terminal of {}.", device.name);
                }
                Ok(())
            }
            Ok(End::Shell) => {
                // The reference's device keeps the place of a shell until it is told to stop it.
                drop(
                    session
                        .send(Message::new(PROTO_SHELL, shell::STOP, ""))
                        .await,
                );
                session.close().await;
                if interactive {
                    eprintln!("\nThe shell on {} has ended.", device.name);
                }
                Ok(())
            }
            Ok(End::NoReader) => {
                stop(&mut session).await;
                session.close().await;
                Ok(())
            }
            Err(Failure { code, error }) => {
                if interactive {
                    eprintln!();
                }
                Err(Failure {
                    code,
                    error: error.context(doing),
                })
            }
        }
    }
}

/// Asks for a shell and waits for it.
async fn start(session: &mut Session, doing: &str) -> Result<(), Failure> {
    let (columns, rows) = tty::size().unwrap_or(SIZE);
    let new = Message::new(PROTO_SHELL, shell::NEW, "")
        .prop(shell::WIDTH, columns)
        .prop(shell::HEIGHT, rows);
    session
        .send(new)
        .await
        .map_err(|ended| ended.failure(doing))?;
    loop {
        let message = session
            .answer()
            .await
            .map_err(|ended| ended.failure(doing))?;
        let refused = |text: &str| -> Result<(), Failure> {
            let advice = if text.contains("too many") {
                "; a session that was lost ends after a minute"
            } else {
                ""
            };
            Err(anyhow!("{doing}: the device starts no shell: {text}{advice}").into())
        };
        match (message.proto, message.typ.as_str()) {
            (PROTO_SHELL, shell::NEW | shell::STOP) => {
                let text = plain(&String::from_utf8_lossy(&message.body));
                let good = message.typ == shell::NEW
                    && message.props.int(shell::STATUS) != Some(shell::STATUS_ERROR);
                return if good { Ok(()) } else { refused(&text) };
            }
            (PROTO_CONTROL, control::ERROR) => {
                let failure = control::Failure::decode(&message.body).unwrap_or_default();
                return refused(&plain(&failure.err));
            }
            _ => {}
        }
    }
}

/// Ends the shell; what the device still says is of no interest.
async fn stop(session: &mut Session) {
    let stop = Message::new(PROTO_SHELL, shell::STOP, "");
    let told = async {
        drop(session.send(stop).await);
        while let Ok(message) = session.next().await {
            if (message.proto, message.typ.as_str()) == (PROTO_SHELL, shell::STOP) {
                break;
            }
        }
    };
    drop(tokio::time::timeout(LEAVE, told).await);
}

/// A shell that runs.
struct Shell {
    escape: Escape,
    interactive: bool,
    output: Option<Output>,
    screen: Screen,
    /// The shell has shown something, or it has been waited for long enough.
    ready: bool,
    /// Input that waits for room in the session.
    pending: VecDeque<Message>,
    /// The last byte of the input.
    last: u8,
}

impl Shell {
    /// Input, output and changes of size until the end. None of them waits for another: a shell that
    /// takes no input may be waiting for us to take its output.
    async fn converse(&mut self, session: &mut Session) -> Result<End, Failure> {
        let sender = session.sender();
        let mut input = stdio::input();
        let mut more_input = true;
        let mut again = interval_at(Instant::now(), END_AGAIN);
        let prompt_by = Instant::now() + PROMPT;
        let mut resized = signal(SignalKind::window_change()).context("cannot hear of signals")?;
        loop {
            tokio::select! {
                message = session.next() => match message {
                    Ok(message) => if let Some(end) = self.take(message).await? {
                        return Ok(end);
                    },
                    Err(ended) => return Err(ended.failure("the session has ended")),
                },
                // That the session has ended comes with the next message.
                Some(room) = sender.room(), if !self.pending.is_empty() => {
                    if let Some(message) = self.pending.pop_front() {
                        room.send(message);
                    }
                }
                () = sleep_until(prompt_by), if !self.ready => self.ready = true,
                piece = input.recv(), if self.ready && more_input && self.pending.is_empty() => {
                    let leaves = match piece {
                        Some(piece) => self.typed(&piece.context("cannot read standard input")?),
                        None => {
                            more_input = false;
                            again.reset_after(END_AGAIN);
                            self.end_input()
                        }
                    };
                    if leaves {
                        return Ok(End::Left);
                    }
                },
                _ = again.tick(), if !more_input && self.pending.is_empty() => {
                    let pause = (again.period() * 2).min(END_AGAIN_MAX);
                    again = interval_at(Instant::now() + pause, pause);
                    self.end_input();
                }
                _ = resized.recv() => if let Some((columns, rows)) = tty::size() {
                    let resize = Message::new(PROTO_SHELL, shell::RESIZE, "")
                        .prop(shell::WIDTH, columns)
                        .prop(shell::HEIGHT, rows);
                    self.pending.push_back(resize);
                },
            }
        }
    }

    /// Queues input. Whether the user leaves.
    fn typed(&mut self, input: &[u8]) -> bool {
        let (keys, leaves) = self.escape.split(input);
        self.last = keys.last().copied().unwrap_or(self.last);
        let messages = keys
            .chunks(INPUT_BYTES)
            .map(|keys| Message::new(PROTO_SHELL, shell::SHELL, "").body(keys));
        self.pending.extend(messages);
        leaves
    }

    /// Tells the shell that nothing follows, as Ctrl-D does at the beginning of a line.
    fn end_input(&mut self) -> bool {
        if self.interactive {
            // The terminal has gone away.
            return true;
        }
        let begins = [b'\n', END[0]].contains(&self.last);
        self.typed(if begins { END } else { LINE_END_AND_END })
    }

    async fn take(&mut self, message: Message) -> Result<Option<End>, Failure> {
        match (message.proto, message.typ.as_str()) {
            (PROTO_SHELL, shell::SHELL) => {
                self.ready = true;
                self.screen.watch(&message.body);
                let taken = match &self.output {
                    Some(output) => output.write(message.body).await,
                    None => false,
                };
                Ok((!taken).then_some(End::NoReader))
            }
            (PROTO_SHELL, shell::STOP) => {
                let text = String::from_utf8_lossy(&message.body);
                if ended_by_itself(message.props.int(shell::STATUS), &text) {
                    Ok(Some(End::Shell))
                } else {
                    Err(anyhow!("the session was ended: {}", plain(&text)).into())
                }
            }
            (PROTO_CONTROL, control::ERROR) => {
                let failure = control::Failure::decode(&message.body).unwrap_or_default();
                Err(anyhow!("the device reports: {}", plain(&failure.err)).into())
            }
            _ => Ok(None),
        }
    }

    /// Writes what is left, and puts the screen to rest.
    async fn rest(&mut self) {
        if let Some(output) = self.output.take() {
            // There is nobody to tell that there is nobody to tell.
            drop(output.finish().await);
        }
        if self.interactive && io::stdout().is_terminal() {
            let mut out = io::stdout();
            drop(out.write_all(self.screen.reset().as_bytes()));
            drop(out.flush());
        }
    }
}

/// Whether a `stop` tells of a shell that ended by itself. The reference's device reports that as a
/// failure to read from the terminal, which is what the end of the last program on it looks like.
fn ended_by_itself(status: Option<i64>, text: &str) -> bool {
    status != Some(shell::STATUS_ERROR) || text.contains("input/output error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_keys() {
        for (text, key) in [
            ("]", Some(0x1d)),
            ("Ctrl-]", Some(0x1d)),
            ("^]", Some(0x1d)),
            ("a", Some(1)),
            ("Q", Some(0x11)),
            ("^", Some(0x1e)),
            ("_", Some(0x1f)),
            ("none", None),
        ] {
            assert_eq!(Escape::parse(text), Ok(Escape(key)), "{text}");
        }
        for text in ["", "é", "ab", "1", "~", "Ctrl-"] {
            assert!(Escape::parse(text).is_err(), "{text}");
        }
        assert_eq!(Escape(Some(0x1d)).name().as_deref(), Some("Ctrl-]"));
        assert_eq!(Escape(Some(0x01)).name().as_deref(), Some("Ctrl-A"));
    }

    #[test]
    fn the_escape_key_is_found_anywhere() {
        let escape = Escape(Some(0x1d));
        for (input, kept, leaves) in [
            (&b"ls\r"[..], &b"ls\r"[..], false),
            (b"\x1d", b"", true),
            (b"ls\x1drm", b"ls", true),
            (b"", b"", false),
        ] {
            assert_eq!(escape.split(input), (kept, leaves), "{input:?}");
        }
        assert_eq!(Escape(None).split(b"a\x1db"), (&b"a\x1db"[..], false));
    }

    #[test]
    fn ends_of_shells() {
        for (status, text, by_itself) in [
            (Some(1), "", true),
            (None, "", true),
            (Some(2), "read /dev/ptmx: input/output error", true),
            (Some(2), "device disconnected", false),
            (Some(2), "session expired", false),
        ] {
            assert_eq!(ended_by_itself(status, text), by_itself, "{text}");
        }
    }
}
