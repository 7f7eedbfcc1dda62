//! A QEMU board: a disk of its own, power, serial console, agent log, network to this machine.
//!
//! The board runs under plain emulation. KVM is used only with `AMBIDEX_BOARD_KVM=1`: a `/dev/kvm` that can
//! be opened proves nothing, nested setups offer one that cannot run a guest.

mod choice;
mod console;
mod disk;
mod environment;
mod firmware;
mod kind;
mod lab;
mod qmp;
mod volatile;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use choice::{BootChoice, Slot};
pub use console::{Booted, CommandOutput, Console};
pub use disk::Disk;
pub use environment::{BootEnvironment, environment_block};
pub use firmware::{Firmware, Wire};
pub use kind::Kind;
pub use lab::{Fault, Lab};
pub use volatile::{Loss, VolatileDisk};

use crate::child;
use lab::Permit;

/// Boots take 10 s on an idle machine; loaded ones have been seen to need ten times that.
pub const BOOT_LIMIT: Duration = Duration::from_secs(400);
/// A socket's path has at most 107 bytes; the sockets' names are short.
const FOLDER_BYTES_MAX: usize = 95;

/// What is handed to the board from outside through the firmware configuration device.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Top-level keys of `agent.toml`.
    pub agent_toml: String,
    /// PEM public key that signatures are checked with; named in the configuration when present.
    pub verify_key: Option<PathBuf>,
}

impl Settings {
    /// Points the agent at a server on this machine, with intervals fit for tests.
    pub fn for_server(server: SocketAddr) -> Self {
        Self::for_url(&format!("http://10.0.2.2:{}", server.port()))
    }

    /// The same with the server's address as the board sees it.
    pub fn for_url(url: &str) -> Self {
        let agent_toml = format!(
            "server_url = \"{url}\"\n\
             update_poll_interval_seconds = 2\n\
             inventory_poll_interval_seconds = 30\n\
             retry_poll_interval_seconds = 2\n\
             retry_poll_count = 15\n\
             retry_download_count = 20\n\
             commit.health_check = [\"/etc/init.d/health\"]\n\
             commit.health_check_timeout_seconds = 10\n"
        );
        Self {
            agent_toml,
            verify_key: None,
        }
    }

    /// Makes signatures mandatory.
    pub fn with_verify_key(mut self, public_key: &Path) -> Self {
        self.agent_toml
            .push_str("artifact_verify_keys = [\"/run/board/verify-key.pem\"]\n");
        self.verify_key = Some(public_key.to_owned());
        self
    }
}

/// One board. Off after [`Lab::board`]; killed on drop.
#[derive(Debug)]
pub struct Board {
    folder: PathBuf,
    kind: Kind,
    disk: Disk,
    /// In front of `disk` when power cuts shall lose what was not flushed.
    cache: Option<VolatileDisk>,
    settings: Settings,
    /// Held while the board exists: only a few boards run at a time on a machine.
    _permit: Permit,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    power: Power,
    console: Console,
    since: Instant,
}

/// What runs the machine.
#[derive(Debug)]
enum Power {
    /// QEMU, whose own firmware outlives resets.
    Qemu(Child),
    /// A firmware of ours, which starts QEMU again and again; the sender ends both.
    Firmware(oneshot::Sender<()>, JoinHandle<Result<()>>),
}

impl Power {
    async fn cut(self) -> Result<()> {
        match self {
            Self::Qemu(mut qemu) => qemu.kill().await.context("killing QEMU"),
            Self::Firmware(power, task) => {
                // fails when the firmware has come to an end by itself, of which the console has told
                let _ = power.send(());
                let _ = task.await.context("the firmware has panicked")?;
                Ok(())
            }
        }
    }
}

impl Board {
    async fn assemble(
        folder: PathBuf,
        kind: Kind,
        image: &Path,
        settings: Settings,
        permit: Permit,
    ) -> Result<Self> {
        if folder.as_os_str().len() > FOLDER_BYTES_MAX {
            bail!(
                "the path {} is too long for the board's sockets: set TMPDIR to a shorter one",
                folder.display()
            );
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let disk = Disk::copy_of(image, &folder.join("disk.img"), kind).await?;
        std::fs::write(folder.join("agent.toml"), &settings.agent_toml)
            .context("writing the agent's settings")?;
        Ok(Self {
            folder,
            kind,
            disk,
            cache: None,
            settings,
            _permit: permit,
            running: None,
        })
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The disk, to be looked at from outside.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Puts a volatile write cache before the disk (board off): from now on a power cut loses a random part
    /// of what the guest has not flushed. `seed` makes a run repeatable.
    pub fn add_volatile_cache(&mut self, seed: u64) -> Result<&VolatileDisk> {
        let cache = VolatileDisk::serve(self.disk.path(), &self.folder.join("nbd"), seed)?;
        Ok(self.cache.insert(cache))
    }

    /// The volatile write cache.
    pub fn cache(&self) -> Result<&VolatileDisk> {
        self.cache
            .as_ref()
            .context("the board has no volatile write cache")
    }

    /// How many MiB of a partition hold the same bytes as `image` at the same place, as the board sees its disk.
    pub fn equal_mib(&self, partition: u8, image: &Path) -> Result<usize> {
        match &self.cache {
            Some(cache) => cache.equal_mib(self.disk.partition(partition)?.0, image),
            None => self.disk.equal_mib(partition, image),
        }
    }

    /// Whether a partition starts with exactly the bytes of `image`, as the board sees its disk.
    pub fn holds(&self, partition: u8, image: &Path) -> Result<bool> {
        let bytes = std::fs::metadata(image)
            .with_context(|| format!("asking for {}", image.display()))?
            .len();
        Ok(self.equal_mib(partition, image)? as u64 == bytes.div_ceil(1 << 20))
    }

    /// Changes the settings; the next power on hands them in.
    pub fn set_settings(&mut self, settings: Settings) -> Result<()> {
        std::fs::write(self.folder.join("agent.toml"), &settings.agent_toml)
            .context("writing the agent's settings")?;
        self.settings = settings;
        Ok(())
    }

    /// Starts QEMU. The disk is as the last run has left it.
    pub async fn power_on(&mut self) -> Result<()> {
        if self.running.is_some() {
            bail!("the board is on already");
        }
        for socket in ["console", "qmp"] {
            let path = self.folder.join(socket);
            if path.exists() {
                std::fs::remove_file(&path)
                    .with_context(|| format!("removing {}", path.display()))?;
            }
        }
        let (power, console) = match self.kind {
            Kind::X86_64Grub | Kind::Aarch64Uboot | Kind::Armv7Uboot => self.start_qemu().await?,
            Kind::RaspberryPi => self.start_firmware()?,
        };
        self.running = Some(Running {
            power,
            console,
            since: Instant::now(),
        });
        Ok(())
    }

    fn start_firmware(&self) -> Result<(Power, Console)> {
        let (ours, guest) = UnixStream::pair().context("making the console")?;
        let console = Console::over(ours, &self.folder.join("console.log"))?;
        let mut arguments = vec![
            "-chardev".to_owned(),
            "stdio,id=console,signal=off".to_owned(),
        ];
        arguments.extend(self.arguments());
        let firmware = Firmware::new(
            self.disk.clone(),
            &self.folder,
            arguments,
            Wire::Socket(guest),
        );
        let (power, cut) = oneshot::channel();
        Ok((
            Power::Firmware(power, tokio::spawn(firmware.run(cut))),
            console,
        ))
    }

    async fn start_qemu(&self) -> Result<(Power, Console)> {
        let errors = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("qemu.err"))
            .context("opening the file for QEMU's messages")?;
        let (program, package) = self.kind.qemu();
        let mut command = child::command(program);
        command
            .args(["-chardev", &self.console_option()])
            .args(self.arguments())
            .stdout(Stdio::null())
            .stderr(errors);
        let qemu = command
            .spawn()
            .with_context(|| format!("starting {program} (Debian package {package})"))?;
        let console = Console::connect(
            &self.folder.join("console"),
            &self.folder.join("console.log"),
        )
        .await
        .with_context(|| {
            format!(
                "QEMU does not start: {}",
                child::tail(&self.folder.join("qemu.err"), 1000)
            )
        })?;
        Ok((Power::Qemu(qemu), console))
    }

    /// The emulator and its arguments, for a power switch that is not [`Board::power_on`].
    pub fn command_line(&self) -> Vec<String> {
        let program = self.kind.qemu().0.to_owned();
        let mut line = vec![program, "-chardev".to_owned(), self.console_option()];
        line.extend(self.arguments());
        line
    }

    /// The character device `console` where QEMU is started by us.
    fn console_option(&self) -> String {
        format!(
            "socket,id=console,server=on,wait=off,path={}",
            option_value(&self.folder.join("console"))
        )
    }

    /// QEMU's arguments; the character device `console` comes before them.
    fn arguments(&self) -> Vec<String> {
        let in_folder = |name: &str| option_value(&self.folder.join(name));
        let drive = match &self.cache {
            None => format!(
                "format=raw,cache=writeback,file={}",
                option_value(self.disk.path())
            ),
            Some(cache) => format!(
                "format=raw,cache=writeback,file.driver=nbd,file.server.type=unix,file.server.path={}",
                option_value(cache.socket())
            ),
        };
        let mut arguments: Vec<String> = [
            "-smp",
            "1",
            "-m",
            "512",
            "-display",
            "none",
            "-nodefaults",
            "-action",
            "watchdog=reset",
            "-device",
            "i6300esb",
            "-drive",
            &format!("if=none,id=disk,{drive}"),
            "-device",
            "virtio-blk-pci,drive=disk,bootindex=0",
            "-netdev",
            "user,id=net",
            "-device",
            // no option ROM: no attempt to boot from the network
            "virtio-net-pci,netdev=net,romfile=",
            "-object",
            "rng-random,id=random,filename=/dev/urandom",
            "-device",
            "virtio-rng-pci,rng=random",
            "-serial",
            "chardev:console",
            "-chardev",
            &format!("file,id=log,append=on,path={}", in_folder("agent.log")),
            "-qmp",
            &format!("unix:{},server=on,wait=off", in_folder("qmp")),
        ]
        .map(str::to_owned)
        .into();
        arguments.extend(self.kind.hand_in("agent.toml", &in_folder("agent.toml")));
        arguments.extend(self.kind.machine(&self.folder));
        if let Some(key) = &self.settings.verify_key {
            arguments.extend(self.kind.hand_in("verify-key.pem", &option_value(key)));
        }
        arguments
    }

    /// Pulls the plug: SIGKILL for QEMU, nothing in the guest gets a chance to react. With a volatile cache
    /// the result says what was lost.
    pub async fn power_cut(&mut self) -> Result<Option<Loss>> {
        let Some(running) = self.running.take() else {
            return Ok(None);
        };
        running.power.cut().await?;
        self.cache
            .as_ref()
            .map(VolatileDisk::lose_power)
            .transpose()
    }

    /// Waits until user space is up and the shell answers.
    pub async fn wait_boot(&mut self) -> Result<Booted> {
        let booted = self.wait_boot_marker().await?;
        self.console()?.shell(BOOT_LIMIT).await?;
        Ok(booted)
    }

    /// Waits for the line that ends a boot, and returns at once: the agent may not have started yet.
    pub async fn wait_boot_marker(&mut self) -> Result<Booted> {
        let booted = self.console()?.booted(BOOT_LIMIT).await;
        booted.with_context(|| {
            format!(
                "the board does not boot; qemu: {}",
                child::tail(&self.folder.join("qemu.err"), 500)
            )
        })
    }

    /// Waits until the shell answers again, whether or not the board has rebooted in the meantime.
    pub async fn console_settles(&mut self) -> Result<()> {
        self.console()?.shell(BOOT_LIMIT).await
    }

    /// Power on and [`Board::wait_boot`].
    pub async fn boot(&mut self) -> Result<Booted> {
        self.power_on().await?;
        self.wait_boot().await
    }

    /// Waits for a line with `text` on the console (boot loader and kernel messages).
    pub async fn wait_console(&mut self, text: &str, limit: Duration) -> Result<String> {
        self.console()?.line_with(text, limit).await
    }

    /// Runs a shell command as root on the board.
    pub async fn run(&mut self, command: &str) -> Result<CommandOutput> {
        self.console()?.run(command, Duration::from_secs(180)).await
    }

    /// Runs a shell command that must succeed and returns what it prints.
    pub async fn output(&mut self, command: &str) -> Result<String> {
        let output = self.run(command).await?;
        if output.code != 0 {
            bail!(
                "`{command}` on the board ended with {}: {}",
                output.code,
                output.text
            );
        }
        Ok(output.text)
    }

    /// Presses the reset button.
    pub async fn reset(&mut self) -> Result<()> {
        qmp::execute(&self.folder.join("qmp"), "system_reset").await
    }

    /// Everything the console has shown, over all boots.
    pub fn console_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("console.log")).unwrap_or_default())
            .into_owned()
    }

    /// Everything the agent has logged on its own line, over all boots.
    pub fn agent_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("agent.log")).unwrap_or_default())
            .replace('\r', "")
    }

    /// Slots the boot loader has started, over all boots, for instance `[2, 3, 2]`: 2 is slot A, 3 slot B.
    pub fn slots_started(&self) -> Vec<u8> {
        self.console_log()
            .split("ambidex: booting slot ")
            .skip(1)
            .filter_map(|rest| {
                rest.bytes()
                    .next()
                    .filter(u8::is_ascii_digit)
                    .map(|digit| digit - b'0')
            })
            .collect()
    }

    /// The socket of the console and root shell, for people.
    pub fn console_socket(&self) -> PathBuf {
        self.folder.join("console")
    }

    /// Time since the last power on.
    pub fn uptime(&self) -> Duration {
        self.running
            .as_ref()
            .map_or(Duration::ZERO, |running| running.since.elapsed())
    }

    /// The console, while the board is on.
    pub fn console(&mut self) -> Result<&mut Console> {
        self.running
            .as_mut()
            .map(|running| &mut running.console)
            .context("the board is off")
    }
}

/// A path as a value in a QEMU option: a comma is doubled.
fn option_value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// Copies a mostly empty file in some milliseconds: holes stay holes, file systems that can share blocks do.
async fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    child::run(
        child::command("cp")
            .args(["--sparse=always", "--reflink=auto", "--"])
            .arg(from)
            .arg(to),
    )
    .await
    .with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}
