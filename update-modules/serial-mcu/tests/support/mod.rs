//! A board with a microcontroller on a pseudo-terminal, and the module that updates it.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::termios::{ControlFlags, SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Pid, mkfifo, ttyname};

/// Why a simulated program stops in the middle of what it does.
pub enum Stop {
    /// The reset pin.
    Reset,
    /// The end of the test.
    End,
}

/// What a microcontroller sees of the world: its serial port, and what starts it.
pub struct Pins {
    serial: File,
    control: File,
    acknowledge: File,
    module: Arc<Mutex<Option<Pid>>>,
    /// BOOT0 at the last reset.
    pub bootloader: bool,
    awaited: bool,
}

impl Pins {
    /// The next byte; `None` when none comes for this long.
    pub fn byte_within(&mut self, milliseconds: Option<u16>) -> Result<Option<u8>, Stop> {
        let limit = milliseconds.map_or(PollTimeout::NONE, PollTimeout::from);
        let mut ready = [
            PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.serial.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut ready, limit).unwrap() == 0 {
            return Ok(None);
        }
        if ready[0].any().unwrap() {
            return Err(self.reset());
        }
        let mut byte = [0];
        self.serial.read_exact(&mut byte).unwrap();
        Ok(Some(byte[0]))
    }

    pub fn byte(&mut self) -> Result<u8, Stop> {
        loop {
            if let Some(byte) = self.byte_within(None)? {
                return Ok(byte);
            }
        }
    }

    fn reset(&mut self) -> Stop {
        let mut order = [0];
        self.control.read_exact(&mut order).unwrap();
        self.bootloader = match order[0] {
            b'b' => true,
            b'a' => false,
            _ => return Stop::End,
        };
        self.awaited = true;
        // what was on its way is lost
        let mut ready = [PollFd::new(self.serial.as_fd(), PollFlags::POLLIN)];
        while poll(&mut ready, PollTimeout::ZERO).unwrap() > 0 {
            let _ = (&self.serial).read(&mut [0; 4096]).unwrap();
        }
        Stop::Reset
    }

    /// The microcontroller has started: the command that reset it may return.
    pub fn started(&mut self) {
        if std::mem::take(&mut self.awaited) {
            self.acknowledge.write_all(b"\n").unwrap();
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.serial.write_all(bytes).unwrap();
    }

    /// The power of the whole device goes, and that of the module with it.
    pub fn cut_power(&self) {
        kill(self.module.lock().unwrap().unwrap(), Signal::SIGKILL).unwrap();
    }
}

/// The device, from the module's side.
pub struct Board<Chip> {
    dir: tempfile::TempDir,
    pub chip: Arc<Mutex<Chip>>,
    module: Arc<Mutex<Option<Pid>>>,
    port: PathBuf,
    thread: Option<JoinHandle<()>>,
    control: File,
    /// A pipe or pseudo-terminal without anybody on this side blocks, or reads as hung up, on the other.
    open: (File, OwnedFd),
}

/// A microcontroller that has ended, because its program found a mistake, lets nobody wait.
struct LastWord(File);

impl Drop for LastWord {
    fn drop(&mut self) {
        let _ = self.0.write_all(&[b'\n'; 512]);
    }
}

impl<Chip: Send + 'static> Board<Chip> {
    /// Runs a microcontroller until the board is dropped.
    pub fn new(chip: Chip, run: impl FnOnce(Pins, Arc<Mutex<Chip>>) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pty = openpty(None, None).unwrap();
        let mut settings = tcgetattr(&pty.slave).unwrap();
        cfmakeraw(&mut settings);
        settings.control_flags.insert(ControlFlags::HUPCL);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &settings).unwrap();
        let module = Arc::new(Mutex::new(None));
        let fifo = |name: &str| {
            let path = dir.path().join(name);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap()
        };
        let (control, acknowledge) = (fifo("control"), fifo("acknowledge"));
        let last_word = LastWord(acknowledge.try_clone().unwrap());
        let pins = Pins {
            serial: File::from(pty.master),
            control: control.try_clone().unwrap(),
            acknowledge: acknowledge.try_clone().unwrap(),
            module: Arc::clone(&module),
            bootloader: false,
            awaited: false,
        };
        let chip = Arc::new(Mutex::new(chip));
        let shared = Arc::clone(&chip);
        let thread = std::thread::spawn(move || {
            let _last_word = last_word;
            run(pins, shared);
        });
        let board = Self {
            port: ttyname(&pty.slave).unwrap(),
            dir,
            chip,
            module,
            thread: Some(thread),
            control,
            open: (acknowledge, pty.slave),
        };
        board.start_over();
        board
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command that resets the microcontroller and returns when that is done.
    pub fn reset_command(&self, order: char) -> String {
        let (control, acknowledge) = (self.path("control"), self.path("acknowledge"));
        let script = format!(
            "printf {order} > {}; read -r _ < {}",
            control.display(),
            acknowledge.display()
        );
        format!("['/bin/sh', '-c', '{script}']")
    }

    /// Writes the configuration, with both commands.
    pub fn configure(&self, settings: &str) {
        let leave = format!("leave_command = {}\n{settings}", self.reset_command('a'));
        self.configure_bare(&leave);
    }

    /// With control lines in place of commands, which no pseudo-terminal has.
    pub fn configure_lines(&self, settings: &str) {
        let text = format!(
            "[target.chip]\ndevice = '{}'\nboot0 = '!rts'\nreset = 'dtr'\n{settings}\n",
            self.port.display()
        );
        std::fs::write(self.path("config.toml"), text).unwrap();
    }

    /// The same without a command that starts the application.
    pub fn configure_bare(&self, settings: &str) {
        let text = format!(
            "[target.chip]\ndevice = '{}'\nenter_command = {}\nboot_ms = 0\n{settings}\n",
            self.port.display(),
            self.reset_command('b')
        );
        std::fs::write(self.path("config.toml"), text).unwrap();
    }

    /// The baud rate that the module has set, whether it is one of the usual ones or not.
    pub fn baud(&self) -> u32 {
        self.settings().c_ospeed
    }

    /// Whether the control lines fall when the port is closed.
    pub fn hangs_up(&self) -> bool {
        self.settings().c_cflag & nix::libc::HUPCL != 0
    }

    fn settings(&self) -> nix::libc::termios2 {
        nix::ioctl_read!(settings_of, b'T', 0x2A, nix::libc::termios2);
        let port = self.open.1.as_raw_fd();
        // SAFETY: a structure of numbers, which the kernel fills in
        unsafe {
            let mut settings = std::mem::zeroed();
            settings_of(port, &mut settings).unwrap();
            settings
        }
    }

    /// A new file tree, as for every deployment.
    pub fn start_over(&self) {
        let tree = self.path("tree");
        let _ = std::fs::remove_dir_all(&tree);
        for dir in ["tmp", "files"] {
            std::fs::create_dir_all(tree.join(dir)).unwrap();
        }
    }

    pub fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path("tree/files").join(name), content).unwrap();
    }

    pub fn note(&self, name: &str) -> PathBuf {
        self.path("tree/tmp").join(name)
    }

    /// One call; what the module answered, or what it said when it failed.
    pub fn call(&self, call: &str) -> Result<String, String> {
        // held until it is known whom a power cut ends
        let mut module = self.module.lock().unwrap();
        let child = Command::new(Path::new(env!("CARGO_BIN_EXE_serial-mcu")))
            .arg(call)
            .arg(self.path("tree"))
            .current_dir(self.path("tree"))
            .env("AMBIDEX_SERIAL_MCU_CONFIG", self.path("config.toml"))
            .env("AMBIDEX_SERIAL_MCU_ARCHIVE", self.path("archive"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        *module = Some(Pid::from_raw(i32::try_from(child.id()).unwrap()));
        drop(module);
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(text(output.stderr))
        }
    }

    /// What the agent does after a failure.
    pub fn give_up(&self) {
        assert_eq!(self.call("SupportsRollback").unwrap(), "Yes\n");
        self.call("ArtifactRollback").unwrap();
        assert_eq!(self.call("NeedsArtifactReboot").unwrap(), "No\n");
        self.call("ArtifactFailure").unwrap();
        self.call("Cleanup").unwrap();
    }

    pub fn commit(&self) {
        self.call("ArtifactCommit").unwrap();
        self.call("Cleanup").unwrap();
    }
}

impl<Chip> Drop for Board<Chip> {
    fn drop(&mut self) {
        let _ = self.control.write_all(b"e");
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Bytes that do not repeat within any block size in use.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
