//! A program on a terminal of its own, in the name of a user.
//!
//! [`start`] gives the two ends: the [`Terminal`] (what the program prints and reads) and the [`Occupant`]
//! (the processes behind it). The program leads a session, so everything it starts can be found and ended:
//! also a job in the background, which has a process group of its own. Dropping the [`Occupant`] kills
//! the session, unless it was released. When this process dies, however that happens, the kernel kills the program
//! (`PR_SET_PDEATHSIG`) and hangs up the terminal, which ends what runs in the foreground; what ignores that is
//! found by [`end_session`].
//!
//! Must be called on the thread that lives as long as the process: the kernel takes the death of the
//! *thread* that started a program for the death of its parent.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use tokio::io::unix::AsyncFd;
use tokio::process::Child;

use crate::account::{Account, is_root};

/// Who may write to a terminal besides its owner, where the group exists.
const TTY_GROUP: &str = "tty";

/// What to start.
#[derive(Debug, Clone)]
pub struct Login {
    /// Absolute path.
    pub program: PathBuf,
    /// Arguments without the program itself. `None`: a login shell, told so by its name (`-sh`), which every
    /// shell understands; not all of them know an option for it.
    pub args: Option<Vec<OsString>>,
    /// In whose name.
    pub account: Account,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Columns and rows.
    pub size: (u16, u16),
}

/// The terminal: reading gives the program's output, writing is its input.
#[derive(Debug)]
pub struct Terminal(AsyncFd<File>);

/// The processes on a terminal.
#[derive(Debug)]
pub struct Occupant {
    child: Child,
    session: Pid,
    released: bool,
}

/// Starts a program on a new terminal.
///
/// # Errors
/// What the operating system answered, with the step that failed.
pub fn start(login: &Login) -> io::Result<(Terminal, Occupant)> {
    let (master, slave) = open(&login.account).map_err(|e| named("open a terminal", &e))?;
    set_size(&master, login.size).map_err(|e| named("size the terminal", &e))?;
    let child = spawn(login, slave).map_err(|e| {
        let what = format!("start '{}'", login.program.display());
        named(&what, &e)
    })?;
    let session = child.id().and_then(|id| i32::try_from(id).ok());
    let session = session.ok_or_else(|| io::Error::other("the program has no process id"))?;
    let occupant = Occupant {
        child,
        session: Pid::from_raw(session),
        released: false,
    };
    let terminal = watch(master).map_err(|e| named("watch the terminal", &e))?;
    Ok((Terminal(terminal), occupant))
}

#[expect(
    deprecated,
    reason = "the descriptor is a file's own and stays open as long as it is watched"
)]
fn watch(master: File) -> io::Result<AsyncFd<File>> {
    AsyncFd::new(master)
}

fn named(doing: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {doing}: {error}"))
}

/// The two sides of a new terminal; the second belongs to the user.
fn open(account: &Account) -> io::Result<(File, File)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let master = posix_openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname_r(&master)?;
    let slave = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(name)?;
    if is_root() {
        let tty = crate::account::group_id(TTY_GROUP).unwrap_or_default();
        let mode = if tty.is_some() { 0o620 } else { 0o600 };
        fchown(&slave, Some(account.uid), tty.or(Some(account.gid)))?;
        slave.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    let master = OwnedFd::from(master);
    Ok((File::from(master), slave))
}

fn spawn(login: &Login, slave: File) -> io::Result<Child> {
    let account = &login.account;
    let home = Some(account.home.as_path()).filter(|home| home.is_dir());
    let mut command = std::process::Command::new(&login.program);
    match &login.args {
        Some(args) => {
            command.args(args);
        }
        None => {
            let mut name = OsString::from("-");
            name.push(login.program.file_name().unwrap_or_default());
            std::os::unix::process::CommandExt::arg0(&mut command, name);
        }
    }
    command
        .env_clear()
        .envs(login.env.iter().map(|(key, value)| (key, value)))
        .current_dir(home.unwrap_or(Path::new("/")))
        .stdin(Stdio::from(slave.try_clone()?))
        .stdout(Stdio::from(slave.try_clone()?))
        .stderr(Stdio::from(slave));
    let groups: Vec<libc::gid_t> = account.groups.clone();
    let (uid, gid) = (account.uid, account.gid);
    let assume = is_root();
    let parent = getpid();
    let prepare = move || {
        // A session of its own, whose controlling terminal is what is standard input by now.
        nix::unistd::setsid()?;
        // SAFETY: an ioctl without memory; descriptor 0 is the terminal.
        Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
        if assume {
            // SAFETY: the pointer and the length belong to a vector that this closure owns.
            Errno::result(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) })?;
            // SAFETY: plain system calls; the group first, as afterwards it is not allowed any more.
            Errno::result(unsafe { libc::setgid(gid) })?;
            // SAFETY: as above.
            Errno::result(unsafe { libc::setuid(uid) })?;
        }
        // After the change of user, which takes the wish back.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // A parent that died before that moment is not heard of any more.
        if nix::unistd::getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing and takes
    // no lock.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, prepare);
    }
    tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
}

fn set_size(master: &File, (columns, rows): (u16, u16)) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open and the kernel reads one `winsize` from the pointer.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(())
}

impl Terminal {
    /// What the program prints; 0 when nobody has the terminal open any more. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// What the operating system answered.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|file| file.get_ref().read(buffer)) {
                // the kernel's word for a terminal whose other side is closed
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Ok(0),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(read) => return read,
                Err(_) => {}
            }
        }
    }

    /// Writes as much as the program's side takes. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the operating system answered.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|file| file.get_ref().write(bytes)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return written,
                Err(_) => {}
            }
        }
    }

    /// What is left in the terminal without waiting for more; 0 when there is nothing.
    pub fn read_left(&self, buffer: &mut [u8]) -> usize {
        self.0.get_ref().read(buffer).unwrap_or_default()
    }

    /// Changes the size; the program is told by SIGWINCH.
    ///
    /// # Errors
    /// What the operating system answered.
    pub fn resize(&self, size: (u16, u16)) -> io::Result<()> {
        set_size(self.0.get_ref(), size)
    }
}

/// Whether a program could be started on a terminal here.
///
/// # Errors
/// What the operating system answered, with the step that failed.
pub fn probe(account: &Account) -> io::Result<()> {
    open(account)
        .map(drop)
        .map_err(|e| named("open a terminal", &e))
}

/// Ends what is left of a session whose owner was killed. `mark`, a `NAME=VALUE` of the environment that the
/// session was started with and no other has, tells it from a later one with the same number: the kernel gives
/// no number away while a process of that session lives.
///
/// How many processes were ended.
pub fn end_session(session: i32, mark: &str) -> usize {
    let session = Pid::from_raw(session);
    let left = members(session);
    if !left.iter().any(|pid| is_marked(*pid, mark)) {
        return 0;
    }
    // twice: as when an occupant is dropped
    for _ in 0..2 {
        for pid in members(session) {
            // one that has ended meanwhile is fine
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
    left.len()
}

fn is_marked(pid: Pid, mark: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mut entries = environment.split(|byte| *byte == 0);
    entries.any(|entry| entry == mark.as_bytes())
}

impl Occupant {
    /// The number of the session: the process id of the program.
    #[must_use]
    pub fn session(&self) -> i32 {
        self.session.as_raw()
    }

    /// Waits for the end of the program itself. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the operating system lost track of it.
    pub async fn wait(&mut self) -> io::Result<crate::process::Exit> {
        let status = self.child.wait().await?;
        Ok(crate::process::Exit::of(status, false))
    }

    /// Tells every process of the session that its terminal is gone.
    pub fn hang_up(&self) {
        self.signal(Signal::SIGHUP);
        // one that is stopped hears of it only when it goes on
        self.signal(Signal::SIGCONT);
    }

    /// Ends every process of the session at once.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Lets what is left of the session live on.
    pub fn release(mut self) {
        self.released = true;
    }

    /// Whether any process of the session is left.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !members(self.session).is_empty()
    }

    fn signal(&self, signal: Signal) {
        for pid in members(self.session) {
            // one that has ended meanwhile is fine
            let _ = kill(pid, signal);
        }
    }
}

impl Drop for Occupant {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        // twice: one that was forked while the list was read is on the second one
        self.kill();
        self.kill();
    }
}

/// The processes of a session that are not zombies.
fn members(session: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| belongs(&stat, session.as_raw()))
        })
        .map(Pid::from_raw)
        .collect()
}

/// Whether a line of `/proc/PID/stat` is of a living process of the session. The second field is the
/// program's name in parentheses and may hold anything.
fn belongs(stat: &str, session: i32) -> bool {
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut fields = rest.split(' ');
    let state = fields.next();
    // parent, group, session
    state != Some("Z") && fields.nth(2).and_then(|field| field.parse().ok()) == Some(session)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn login(script: &str) -> Login {
        let name = nix::unistd::User::from_uid(nix::unistd::geteuid())
            .unwrap()
            .unwrap()
            .name;
        Login {
            program: "/bin/sh".into(),
            args: Some(vec!["-c".into(), script.into()]),
            account: Account::lookup(&name).unwrap().unwrap(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            size: (91, 17),
        }
    }

    async fn output(terminal: &Terminal) -> String {
        let mut all = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            match terminal.read(&mut buffer).await.unwrap() {
                0 => return String::from_utf8(all).unwrap(),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[tokio::test]
    async fn a_program_has_a_terminal_of_the_size_and_only_its_environment() {
        let (terminal, mut occupant) = start(&login("stty size; tty >&2; env")).unwrap();
        let text = output(&terminal).await;
        assert!(text.starts_with("17 91\r\n/dev/pts/"), "{text}");
        assert!(!text.contains("CARGO"), "{text}");
        assert!(occupant.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn jobs_in_the_background_end_with_the_session() {
        let script = "set -m; (trap '' HUP; while :; do sleep 60; done) & echo started $!; cat";
        let (terminal, occupant) = start(&login(script)).unwrap();
        let mut buffer = [0; 256];
        let count = terminal.read(&mut buffer).await.unwrap();
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let job: i32 = text
            .trim()
            .strip_prefix("started ")
            .unwrap()
            .parse()
            .unwrap();
        let session = occupant.session;
        assert!(members(session).contains(&Pid::from_raw(job)));
        drop(occupant);
        let gone = async {
            while !members(session).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone)
            .await
            .unwrap();
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_is_passed_over() {
        let stat = "12 (a ) b) S 1 12 77 34816 12 4194304";
        assert!(belongs(stat, 77));
        assert!(!belongs(stat, 12));
        assert!(!belongs("12 (a) Z 1 12 77 34816", 77));
        assert!(!belongs("", 77));
    }
}
