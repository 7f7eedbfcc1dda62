//! `ambidex-board-firmware DISK FOLDER ARGUMENT...`: started by `qemu/run` for the board raspberrypi-tryboot, in the
//! place of QEMU, which it starts with these arguments again at every reset.

use std::path::Path;
use std::process::ExitCode;

use ambidex_harness::board::{Disk, Firmware, Kind, Wire};
use tokio::sync::oneshot;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(disk), Some(folder)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: ambidex-board-firmware DISK FOLDER QEMU-ARGUMENT...");
        return ExitCode::from(2);
    };
    let disk = Disk::existing(Path::new(&disk), Kind::RaspberryPi);
    let firmware = Firmware::new(
        disk,
        Path::new(&folder),
        arguments.collect(),
        Wire::Terminal,
    );
    // whoever ends this program ends QEMU
    let (_power, cut) = oneshot::channel();
    match firmware.run(cut).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
