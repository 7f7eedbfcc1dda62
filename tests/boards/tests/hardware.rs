//! The driver for boards on the desk, with an emulated one in their place: its console is a serial port (a
//! pseudo-terminal), its power switch two shell scripts. A flow that passes here passes through the driver.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambidex_harness::board::{Kind, Settings};
use ambidex_harness::{Lab, flow};
use ambidex_test_boards::dut::HardwareFile;
use ambidex_test_boards::flows;
use ambidex_test_boards::{Rig, Target};
use anyhow::{Context as _, Result};
use serialport::{SerialPort as _, TTYPort};

const PAUSE: Duration = Duration::from_millis(50);

/// The cable between a pseudo-terminal and the console of a QEMU that comes and goes.
struct Cable {
    port: PathBuf,
    unplugged: Arc<AtomicBool>,
    // keeps the terminal open while nobody else has it
    _slave: TTYPort,
}

impl Cable {
    fn plug(console: PathBuf) -> Result<Self> {
        let (mut master, slave) = TTYPort::pair().context("opening a pseudo-terminal")?;
        let port = slave.name().context("the terminal has no name")?.into();
        master.set_timeout(PAUSE)?;
        let unplugged = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&unplugged);
        std::thread::spawn(move || {
            while !end.load(Ordering::SeqCst) {
                match UnixStream::connect(&console) {
                    Ok(stream) => carry(&mut master, stream, &end),
                    Err(_) => std::thread::sleep(PAUSE),
                }
            }
        });
        Ok(Self {
            port,
            unplugged,
            _slave: slave,
        })
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.unplugged.store(true, Ordering::SeqCst);
    }
}

/// Until QEMU ends.
fn carry(master: &mut TTYPort, stream: UnixStream, end: &AtomicBool) {
    let Ok(mut to_port) = master.try_clone_native() else {
        return;
    };
    let Ok(mut from_board) = stream.try_clone() else {
        return;
    };
    let gone = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&gone);
    let reader = std::thread::spawn(move || {
        let mut chunk = [0; 1024];
        while let Ok(count @ 1..) = from_board.read(&mut chunk) {
            if to_port.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        ended.store(true, Ordering::SeqCst);
    });
    let mut to_board = stream;
    let mut chunk = [0; 1024];
    while !gone.load(Ordering::SeqCst) && !end.load(Ordering::SeqCst) {
        if let Ok(count @ 1..) = master.read(&mut chunk)
            && to_board.write_all(&chunk[..count]).is_err()
        {
            break;
        }
    }
    let _ = to_board.shutdown(std::net::Shutdown::Both);
    let _ = reader.join();
}

fn script(path: &Path, lines: &str) -> Result<String> {
    std::fs::write(path, format!("set -eu\n{lines}\n"))?;
    Ok(format!("sh {}", path.display()))
}

#[test]
#[ignore = "not timed yet: a quarter of an hour on a busy machine"]
fn an_update_through_the_hardware_driver() {
    flow("hil-serial", async |scratch| {
        let kind = Kind::Aarch64Uboot;
        let Some(lab) = Lab::open_or_skip(kind).await? else {
            return Ok(());
        };
        // lends its disk and its command line; it is switched by the scripts only
        let mut settings = Settings::for_url("http://10.0.2.2:1");
        settings.verify_key = Some(scratch.join("lent.pem"));
        let desk = lab.board(&scratch.join("desk"), settings).await?;
        let folder = desk.folder().to_owned();
        let cable = Cable::plug(folder.join("console"))?;
        let pid = folder.join("pid");
        let quoted: Vec<String> = desk
            .command_line()
            .iter()
            .map(|word| format!("'{word}'"))
            .collect();
        let power_on = script(
            &folder.join("power-on"),
            &format!(
                "cp \"$AMBIDEX_HIL_SETTINGS\" {0}/agent.toml\ncp \"$AMBIDEX_HIL_VERIFY_KEY\" {1}\nrm -f {0}/console {0}/qmp\n\
                 timeout 1800 {2} >/dev/null 2>{0}/qemu.err &\necho $! >{3}",
                folder.display(),
                scratch.join("lent.pem").display(),
                quoted.join(" "),
                pid.display()
            ),
        )?;
        let power_off = script(
            &folder.join("power-off"),
            &format!(
                "[ -f {0} ] || exit 0\nkill -KILL $(cat {0}) $(ps -o pid= --ppid $(cat {0})) || true\nrm {0} {1}/console",
                pid.display(),
                folder.display()
            ),
        )?;
        let flash = format!(
            "cp --sparse=always \"$AMBIDEX_HIL_IMAGE\" {}",
            desk.disk().path().display()
        );
        let file = scratch.join("desk.toml");
        std::fs::write(
            &file,
            format!(
                "name = \"desk\"\nkind = \"{}\"\nport = \"{}\"\npower_on = \"\"\"{power_on}\"\"\"\npower_off = \"\"\"{power_off}\"\"\"\n\
                 flash = '''{flash}'''\nlisten = \"127.0.0.1:0\"\nserver_url = \"http://10.0.2.2:{{port}}\"\n",
                kind.name(),
                cable.port.display()
            ),
        )?;
        let target = Target::Hardware(Box::new(HardwareFile::read(&file)?));
        let mut rig = Rig::start(&target, scratch.path()).await?.unwrap();
        flows::run_all(&mut rig, &target, flows::UPDATES[..2].iter()).await
    });
}
