//! Child processes with a deadline, in a process group of their own, without zombies.
//!
//! Who owns what: the future returned by [`run`] and [`capture`] owns the child. Dropping it
//! kills the whole group at once; the runtime reaps the leader. At the deadline the group gets
//! SIGTERM, then a grace time, then SIGKILL (agent-behaviour sections 1, 4 and 5.1).
//! After the leader has ended, output that is still buffered in the pipes is read, but a
//! background process that inherited them is not waited for.

mod lines;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub use lines::LINE_BYTES_MAX;
// public for the tests of its properties
#[doc(hidden)]
pub use lines::LineSplitter;

/// Between SIGTERM and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long pipes are read after the leader ended, when somebody else still holds them open.
const DRAIN: Duration = Duration::from_millis(500);

const READ_BYTES: usize = 4096;

/// What to run and how long it may take.
#[derive(Debug, Clone)]
pub struct Command {
    /// A path, or a name searched on `PATH`.
    pub program: OsString,
    /// Arguments without the program itself.
    pub args: Vec<OsString>,
    /// Working directory; that of the agent when `None`.
    pub cwd: Option<PathBuf>,
    /// Variables added to the inherited environment.
    pub env: Vec<(OsString, OsString)>,
    /// Written to the standard input, which is then closed; `/dev/null` when `None`.
    pub stdin: Option<Vec<u8>>,
    /// Time limit of the whole run.
    pub timeout: Duration,
    /// Between SIGTERM and SIGKILL, [`GRACE`] unless told otherwise.
    pub grace: Duration,
}

impl Command {
    /// A command without arguments, in the agent's directory and environment.
    pub fn new(program: impl Into<OsString>, timeout: Duration) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            cwd: None,
            env: Vec::new(),
            stdin: None,
            timeout,
            grace: GRACE,
        }
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A request to a running daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// SIGUSR1
    First,
    /// SIGUSR2
    Second,
}

/// Sends a nudge to the process `pid`.
///
/// # Errors
/// The system's reason: no such process, or not permitted.
pub fn nudge(pid: i32, nudge: Nudge) -> std::io::Result<()> {
    let signal = match nudge {
        Nudge::First => Signal::SIGUSR1,
        Nudge::Second => Signal::SIGUSR2,
    };
    nix::sys::signal::kill(Pid::from_raw(pid), signal).map_err(Into::into)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, when it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it, otherwise.
    pub signal: Option<i32>,
    /// True when the time limit was reached, however it ended then.
    pub timed_out: bool,
}

impl Exit {
    /// Ended by itself, in time, with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0) && !self.timed_out
    }

    pub(crate) fn of(status: ExitStatus, timed_out: bool) -> Self {
        Self {
            code: status.code(),
            signal: status.signal(),
            timed_out,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.timed_out, self.code, self.signal) {
            (true, ..) => f.write_str("ran into its time limit and was stopped"),
            (_, Some(code), _) => write!(f, "ended with code {code}"),
            (_, _, Some(signal)) => write!(f, "was ended by signal {signal}"),
            _ => f.write_str("ended in an unknown way"),
        }
    }
}

/// What [`capture`] collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// How it ended.
    pub exit: Exit,
    /// The standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// True when there was more than the limit; the rest was thrown away.
    pub overflowed: bool,
}

/// Why a process could not be run. A process that ran and failed is an [`Exit`], not an error.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start {program}: {cause}")]
    Start {
        /// The program.
        program: String,
        /// What the operating system answered.
        cause: std::io::Error,
    },
    /// The operating system lost track of it.
    #[error("cannot wait for {program}: {cause}")]
    Wait {
        /// The program.
        program: String,
        /// What the operating system answered.
        cause: std::io::Error,
    },
}

/// Runs a command to its end and hands every line of its output to `on_line`, in order per
/// stream. Bytes that are not UTF-8 are replaced; lines longer than [`LINE_BYTES_MAX`] are cut.
///
/// # Errors
/// When it cannot be started or waited for.
pub async fn run(
    command: &Command,
    on_line: &mut (dyn FnMut(Stream, &str) + Send),
) -> Result<Exit, ProcessError> {
    let mut sink = Lines {
        on_line,
        stdout: Output::Lines(LineSplitter::default()),
        stderr: LineSplitter::default(),
    };
    drive(command, &mut sink).await
}

/// Runs a command to its end and collects at most `stdout_bytes_max` of its standard output;
/// standard error goes to `on_line`.
///
/// # Errors
/// When it cannot be started or waited for.
pub async fn capture(
    command: &Command,
    stdout_bytes_max: usize,
    on_line: &mut (dyn FnMut(Stream, &str) + Send),
) -> Result<Captured, ProcessError> {
    let mut sink = Lines {
        on_line,
        stdout: Output::Bytes {
            bytes: Vec::new(),
            bytes_max: stdout_bytes_max,
            overflowed: false,
        },
        stderr: LineSplitter::default(),
    };
    let exit = drive(command, &mut sink).await?;
    let (stdout, overflowed) = match sink.stdout {
        Output::Bytes {
            bytes, overflowed, ..
        } => (bytes, overflowed),
        Output::Lines(_) => (Vec::new(), false),
    };
    Ok(Captured {
        exit,
        stdout,
        overflowed,
    })
}

enum Output {
    Lines(LineSplitter),
    Bytes {
        bytes: Vec<u8>,
        bytes_max: usize,
        overflowed: bool,
    },
}

struct Lines<'a> {
    on_line: &'a mut (dyn FnMut(Stream, &str) + Send),
    stdout: Output,
    stderr: LineSplitter,
}

impl Lines<'_> {
    fn stdout(&mut self, piece: &[u8]) {
        match &mut self.stdout {
            Output::Lines(splitter) => {
                splitter.push(piece, &mut |line| (self.on_line)(Stream::Stdout, line));
            }
            Output::Bytes {
                bytes,
                bytes_max,
                overflowed,
            } => {
                let room = bytes_max.saturating_sub(bytes.len());
                *overflowed |= piece.len() > room;
                bytes.extend_from_slice(&piece[..piece.len().min(room)]);
            }
        }
    }

    fn stderr(&mut self, piece: &[u8]) {
        self.stderr
            .push(piece, &mut |line| (self.on_line)(Stream::Stderr, line));
    }

    fn finish(&mut self) {
        if let Output::Lines(splitter) = &mut self.stdout {
            splitter.finish(&mut |line| (self.on_line)(Stream::Stdout, line));
        }
        self.stderr
            .finish(&mut |line| (self.on_line)(Stream::Stderr, line));
    }
}

async fn drive(command: &Command, sink: &mut Lines<'_>) -> Result<Exit, ProcessError> {
    let program = || command.program.to_string_lossy().into_owned();
    let mut child = start(command).await.map_err(|cause| ProcessError::Start {
        program: program(),
        cause,
    })?;
    let mut group = Group::of(&child);
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let stdin = child.stdin.take();
    let exit = {
        let pump = async {
            tokio::join!(
                feed(stdin, command.stdin.as_deref()),
                pump(stdout, stderr, sink)
            );
        };
        tokio::pin!(pump);
        let supervise = supervise(&mut child, &mut group, command);
        tokio::pin!(supervise);
        tokio::select! {
            exit = &mut supervise => {
                // a background process may hold the pipes open for ever: not our output any more
                let _ = timeout(DRAIN, &mut pump).await;
                exit
            }
            () = &mut pump => supervise.await,
        }
    };
    sink.finish();
    exit.map_err(|cause| ProcessError::Wait {
        program: program(),
        cause,
    })
}

async fn start(command: &Command) -> std::io::Result<Child> {
    let mut builder = tokio::process::Command::new(&command.program);
    builder
        .args(&command.args)
        .envs(command.env.iter().map(|(key, value)| (key, value)))
        .stdin(if command.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(dir) = &command.cwd {
        builder.current_dir(dir);
    }
    // A script written a moment ago is "busy" while a process forked meanwhile by another thread
    // has not yet closed its copy of the descriptor; that passes within milliseconds.
    let mut patience = 100;
    loop {
        match builder.spawn() {
            Err(error) if error.raw_os_error() == Some(Errno::ETXTBSY as i32) && patience > 0 => {
                patience -= 1;
                sleep(Duration::from_millis(10)).await;
            }
            other => return other,
        }
    }
}

/// The process group of a child. Kills what is left of it unless [`Group::release`]d.
struct Group {
    id: Option<Pid>,
}

impl Group {
    fn of(child: &Child) -> Self {
        let id = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        Self { id }
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // ESRCH: everybody has gone already
            let _ = killpg(id, signal);
        }
    }

    fn has_members(&self) -> bool {
        self.id
            .is_some_and(|id| killpg(id, None) != Err(Errno::ESRCH))
    }

    fn release(&mut self) {
        self.id = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

async fn supervise(
    child: &mut Child,
    group: &mut Group,
    command: &Command,
) -> std::io::Result<Exit> {
    if let Ok(status) = timeout(command.timeout, child.wait()).await {
        let status = status?;
        group.release();
        return Ok(Exit::of(status, false));
    }
    group.signal(Signal::SIGTERM);
    let deadline = Instant::now() + command.grace;
    if let Ok(status) = timeout_at(deadline, child.wait()).await {
        let status = status?;
        while group.has_members() && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
        group.signal(Signal::SIGKILL);
        group.release();
        return Ok(Exit::of(status, true));
    }
    group.signal(Signal::SIGKILL);
    let status = child.wait().await?;
    group.release();
    Ok(Exit::of(status, true))
}

async fn feed(stdin: Option<ChildStdin>, bytes: Option<&[u8]>) {
    if let (Some(mut stdin), Some(bytes)) = (stdin, bytes) {
        // a child that does not read its input to the end is judged by its exit code
        let _ = stdin.write_all(bytes).await;
        let _ = stdin.shutdown().await;
    }
}

async fn pump(
    mut stdout: Option<impl AsyncRead + Unpin>,
    mut stderr: Option<impl AsyncRead + Unpin>,
    sink: &mut Lines<'_>,
) {
    let mut out = [0; READ_BYTES];
    let mut err = [0; READ_BYTES];
    while stdout.is_some() || stderr.is_some() {
        tokio::select! {
            read = read_some(&mut stdout, &mut out), if stdout.is_some() => match read {
                Some(length) => sink.stdout(&out[..length]),
                None => stdout = None,
            },
            read = read_some(&mut stderr, &mut err), if stderr.is_some() => match read {
                Some(length) => sink.stderr(&err[..length]),
                None => stderr = None,
            },
        }
    }
}

/// Bytes read, or `None` at the end of the stream.
async fn read_some(
    source: &mut Option<impl AsyncRead + Unpin>,
    buffer: &mut [u8],
) -> Option<usize> {
    match source.as_mut()?.read(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(length) => Some(length),
    }
}

#[cfg(test)]
mod tests;
