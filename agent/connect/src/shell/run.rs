//! One shell, from its start to the death of everything it has started.
//!
//! A task of its own, so that a shell that does not end holds up nothing but its own place. Input waits in
//! the shell's queue, output in the terminal: neither is read faster than the other side takes it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use ambidex_platform::account::Account;
use ambidex_platform::process::Exit;
use ambidex_platform::pty::{self, Login, Occupant, Terminal};
use ambidex_wire::session::{MessageRef, shell as wire};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, sleep_until};

use super::remains::{self, Record};
use super::{Order, Table};
use crate::Shared;
use crate::inbox::Incoming;
use crate::outgoing::Outgoing;

/// Output in one message. The reference's device sends 255 bytes; every client takes more.
const OUTPUT_BYTES: usize = 4096;
/// What a shell has left in its terminal is still sent, up to this.
const LEFT_BYTES_MAX: usize = 64 << 10;
/// Between looks whether a session has ended.
const LOOK: Duration = Duration::from_millis(20);

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What programs on the other side's terminal may use; what the reference says.
const TERM: &str = "xterm-256color";

pub(super) struct Shell {
    pub(super) shared: Arc<Shared>,
    pub(super) out: Outgoing,
    pub(super) sid: String,
    pub(super) user_id: String,
    pub(super) size: (u16, u16),
    pub(super) table: Table,
}

/// Why a shell ends.
#[derive(Debug)]
enum Ending {
    /// The user wants it.
    Stopped,
    /// By itself.
    Exited(Exit),
    /// We end it, for this reason.
    Told(String),
    /// There is nobody to tell.
    Gone,
}

impl Shell {
    pub(super) async fn run(
        self,
        messages: UnboundedReceiver<Incoming>,
        orders: UnboundedReceiver<Order>,
    ) {
        let started = self.start().await;
        let (terminal, mut occupant) = match started {
            Ok(started) => started,
            Err(reason) => {
                log::warn!("a shell cannot be started: {reason}");
                return self.tell(wire::NEW, wire::STATUS_ERROR, &reason).await;
            }
        };
        log::info!("a shell was started for the user {}", self.user_id);
        // removed when nothing of the shell is left, or when it may live on
        let _recorded = Record::write(
            &self.shared.settings.state,
            occupant.session(),
            &self.mark(),
        );
        let answer = wire::message(wire::NEW, &self.sid, wire::STATUS_NORMAL, b"Shell started");
        let ending = if self.out.send(&answer).await.is_err() {
            Ending::Gone
        } else {
            let mut life = Life::new(&self, terminal, messages, orders);
            let ending = life.live(&mut occupant).await;
            if let Ending::Exited(_) = ending {
                life.send_left().await;
            }
            ending
        };
        log::info!("a shell of the user {} ends: {ending:?}", self.user_id);
        self.clear_out(occupant, &ending).await;
        match ending {
            Ending::Stopped => {
                self.tell(wire::STOP, wire::STATUS_NORMAL, "the shell was stopped")
                    .await;
            }
            Ending::Exited(exit) => {
                let text = format!("the shell {exit}");
                self.tell(wire::STOP, wire::STATUS_NORMAL, &text).await;
            }
            Ending::Told(reason) => self.tell(wire::STOP, wire::STATUS_ERROR, &reason).await,
            Ending::Gone => self.table.free(&self.sid),
        }
    }

    /// Frees the place and sends a last message.
    async fn tell(&self, typ: &str, status: i64, text: &str) {
        self.table.free(&self.sid);
        let message = wire::message(typ, &self.sid, status, text.as_bytes());
        let _ = self.out.send(&message).await;
    }

    async fn start(&self) -> Result<(Terminal, Occupant), String> {
        let terminal = self.shared.settings.terminal.clone();
        // a directory service may take its time
        let account = tokio::task::spawn_blocking(move || terminal.account())
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let settings = &self.shared.settings.terminal;
        let login = Login {
            program: settings.shell.clone().into(),
            args: settings
                .arguments
                .as_ref()
                .map(|arguments| arguments.iter().map(OsString::from).collect()),
            env: environment(&account, &settings.shell, &self.sid),
            account,
            size: self.size,
        };
        pty::start(&login).map_err(|error| error.to_string())
    }

    /// What every process of this shell has in its environment.
    fn mark(&self) -> String {
        format!("{}={}", remains::NAME, self.sid)
    }

    /// Ends what is left of the session. After `exit`, what ignores the hang-up may live on: that is what
    /// `nohup` is for. Otherwise nothing may.
    async fn clear_out(&self, occupant: Occupant, ending: &Ending) {
        occupant.hang_up();
        if let Ending::Exited(_) = ending {
            return occupant.release();
        }
        let deadline = Instant::now() + self.shared.settings.times.shell_grace;
        while occupant.is_alive() && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        // kills what is left
        drop(occupant);
    }
}

/// The whole environment of a shell.
fn environment(account: &Account, shell: &str, sid: &str) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> = vec![
        ("HOME".into(), account.home.clone().into()),
        ("USER".into(), (&account.name).into()),
        ("LOGNAME".into(), (&account.name).into()),
        ("SHELL".into(), shell.into()),
        ("PATH".into(), PATH.into()),
        ("TERM".into(), TERM.into()),
        (remains::NAME.into(), sid.into()),
    ];
    // how text is written on this device is no secret of the agent
    if let Some(lang) = std::env::var_os("LANG") {
        environment.push(("LANG".into(), lang));
    }
    environment
}

/// A shell that runs.
struct Life<'a> {
    shell: &'a Shell,
    terminal: Terminal,
    messages: UnboundedReceiver<Incoming>,
    orders: UnboundedReceiver<Order>,
    /// What the shell has not read yet; of the first one, how much it has.
    input: VecDeque<Incoming>,
    input_done: usize,
    output: Vec<u8>,
    /// The shell's side of the terminal is open.
    open: bool,
    started: Instant,
    last_input: Instant,
    heard: Instant,
    next_ping: Instant,
}

impl<'a> Life<'a> {
    fn new(
        shell: &'a Shell,
        terminal: Terminal,
        messages: UnboundedReceiver<Incoming>,
        orders: UnboundedReceiver<Order>,
    ) -> Life<'a> {
        let now = Instant::now();
        Life {
            shell,
            terminal,
            messages,
            orders,
            input: VecDeque::new(),
            input_done: 0,
            output: Vec::new(),
            open: true,
            started: now,
            last_input: now,
            heard: now,
            next_ping: now + shell.shared.settings.times.shell_ping,
        }
    }

    async fn live(&mut self, occupant: &mut Occupant) -> Ending {
        let mut buffer = [0; OUTPUT_BYTES];
        loop {
            let room = OUTPUT_BYTES - self.output.len();
            let pending = self.input.front().map_or(&[][..], Incoming::body);
            let pending = pending.get(self.input_done..).unwrap_or_default();
            let (until, _) = self.deadline();
            tokio::select! {
                incoming = self.messages.recv() => {
                    let Some(incoming) = incoming else { return Ending::Gone };
                    if let Some(ending) = self.take(incoming).await {
                        return ending;
                    }
                }
                Some(order) = self.orders.recv() => return match order {
                    Order::Stop => Ending::Stopped,
                    Order::End(reason) => Ending::Told(reason),
                },
                permit = self.shell.out.room(), if !self.output.is_empty() => {
                    let Ok(permit) = permit else { return Ending::Gone };
                    permit.send(crate::outgoing::Out::Message(self.output_message()));
                    self.output.clear();
                }
                read = self.terminal.read(&mut buffer[..room]), if self.open && room > 0 => match read {
                    Ok(0) | Err(_) => self.open = false,
                    Ok(count) => self.output.extend_from_slice(&buffer[..count]),
                },
                written = self.terminal.write(pending), if !pending.is_empty() => match written {
                    Ok(count) => self.written(count),
                    // nobody will ever read it
                    Err(_) => self.input.clear(),
                },
                exit = occupant.wait() => return match exit {
                    Ok(exit) => Ending::Exited(exit),
                    Err(error) => Ending::Told(format!("the shell is lost: {error}")),
                },
                () = sleep_until(until) => {
                    if let Some(ending) = self.time().await {
                        return ending;
                    }
                }
            }
        }
    }

    fn output_message(&self) -> Vec<u8> {
        let sid = &self.shell.sid;
        wire::message(wire::SHELL, sid, wire::STATUS_NORMAL, b"").encode_with(&self.output)
    }

    fn written(&mut self, count: usize) {
        self.input_done += count;
        let whole = self.input.front().map_or(0, |first| first.body().len());
        if self.input_done >= whole {
            self.input.pop_front();
            self.input_done = 0;
        }
    }

    async fn take(&mut self, incoming: Incoming) -> Option<Ending> {
        // checked when it was read
        let message = incoming.message().ok()?;
        self.heard = Instant::now();
        match message.typ {
            wire::SHELL => {
                self.last_input = self.heard;
                if !message.body.is_empty() {
                    self.input.push_back(incoming);
                }
            }
            wire::RESIZE => self.resize(&message),
            wire::PONG => {}
            wire::STOP => return Some(Ending::Stopped),
            wire::PING => {
                let sid = &self.shell.sid;
                let pong = wire::message(wire::PONG, sid, wire::STATUS_CONTROL, b"");
                if self.shell.out.send(&pong).await.is_err() {
                    return Some(Ending::Gone);
                }
            }
            other => {
                let reason = format!(
                    "unknown message protocol and type: {}/{other}",
                    message.proto
                );
                let sid = &self.shell.sid;
                let answer = wire::message(other, sid, wire::STATUS_ERROR, reason.as_bytes());
                if self.shell.out.send(&answer).await.is_err() {
                    return Some(Ending::Gone);
                }
            }
        }
        None
    }

    fn resize(&self, message: &MessageRef<'_>) {
        let size = message.props().ok().and_then(|props| wire::size(&props));
        let Some(size) = size else {
            log::debug!("a terminal's new size is not understood");
            return;
        };
        if let Err(error) = self.terminal.resize(size) {
            log::debug!("a terminal cannot be resized: {error}");
        }
    }

    /// When to look at the clock again, and when the session expires.
    fn deadline(&self) -> (Instant, Option<Instant>) {
        let settings = &self.shell.shared.settings;
        let expiry = match (
            settings.sessions.expire_after_idle,
            settings.sessions.expire_after,
        ) {
            (Some(idle), _) => Some(self.last_input + idle),
            (None, Some(after)) => Some(self.started + after),
            (None, None) => None,
        };
        let silence = self.heard + settings.times.shell_silence;
        let next = self.next_ping.min(silence);
        (expiry.map_or(next, |expiry| next.min(expiry)), expiry)
    }

    async fn time(&mut self) -> Option<Ending> {
        let now = Instant::now();
        let settings = &self.shell.shared.settings;
        let times = settings.times;
        if now >= self.heard + times.shell_silence {
            let seconds = times.shell_silence.as_secs();
            let reason = format!("no sign of life for {seconds} s: the shell was stopped");
            return Some(Ending::Told(reason));
        }
        let (_, expiry) = self.deadline();
        if expiry.is_some_and(|expiry| now >= expiry) {
            let reason = match settings.sessions.expire_after_idle {
                Some(idle) => format!("the session has expired: no input for {} s", idle.as_secs()),
                None => "the session has expired".to_owned(),
            };
            return Some(Ending::Told(reason));
        }
        if now >= self.next_ping {
            self.next_ping = now + times.shell_ping;
            let seconds = i64::try_from(times.shell_silence.as_secs()).unwrap_or(i64::MAX);
            let ping = wire::message(wire::PING, &self.shell.sid, wire::STATUS_CONTROL, b"")
                .prop(wire::TIMEOUT, seconds);
            if self.shell.out.send(&ping).await.is_err() {
                return Some(Ending::Gone);
            }
        }
        None
    }

    /// Sends what the shell has printed before its end.
    async fn send_left(&mut self) {
        let mut left = LEFT_BYTES_MAX;
        let mut buffer = [0; OUTPUT_BYTES];
        loop {
            if !self.output.is_empty() {
                let message = self.output_message();
                self.output.clear();
                if self.shell.out.send_bytes(message).await.is_err() {
                    return;
                }
            }
            let count = self.terminal.read_left(&mut buffer);
            if count == 0 || left == 0 {
                return;
            }
            left = left.saturating_sub(count);
            self.output.extend_from_slice(&buffer[..count]);
        }
    }
}
