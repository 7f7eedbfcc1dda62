//! The serial line: bytes with deadlines.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::termios::{ControlFlags, SetArg, tcgetattr, tcsetattr};
use serialport::{ClearBuffer, DataBits, FlowControl, Parity, SerialPort, StopBits};

use crate::config::{Pin, Protocol, Target};

/// The port cannot be used any more.
#[derive(Debug, thiserror::Error)]
#[error("serial port {device}: cannot {action}: {cause}")]
pub struct LineError {
    device: String,
    action: &'static str,
    cause: String,
}

/// An open serial port.
pub struct Line {
    port: Box<dyn SerialPort>,
    device: String,
    baud: u32,
}

/// The AN3155 bootloader wants 8E1; XMODEM is 8N1 by custom.
fn parity(protocol: Protocol) -> Parity {
    match protocol {
        Protocol::Stm32 => Parity::Even,
        Protocol::Xmodem => Parity::None,
    }
}

impl Line {
    /// Opens the port of a target, for this process alone.
    pub fn open(target: &Target) -> Result<Self, LineError> {
        let device = name(&target.device);
        if target.boot0.is_some() || target.reset.is_some() {
            keep_lines(&target.device).map_err(|cause| LineError {
                device: device.clone(),
                action: "open it",
                cause: cause.to_string(),
            })?;
        }
        let port = serialport::new(device.as_str(), target.baud)
            .data_bits(DataBits::Eight)
            .parity(parity(target.protocol))
            .stop_bits(StopBits::One)
            .flow_control(FlowControl::None)
            .timeout(target.answer_time())
            .open()
            .map_err(|cause| LineError {
                device: device.clone(),
                action: "open it",
                cause: cause.to_string(),
            })?;
        Ok(Self {
            port,
            device,
            baud: target.baud,
        })
    }

    fn error(&self, action: &'static str, cause: impl ToString) -> LineError {
        LineError {
            device: self.device.clone(),
            action,
            cause: cause.to_string(),
        }
    }

    /// How long this many bytes are under way.
    fn air_time(&self, bytes: usize) -> Duration {
        // start, eight bits, parity, stop, and one for good measure
        Duration::from_secs_f64(bytes as f64 * 12.0 / f64::from(self.baud))
    }

    /// Sends everything. It may still be under way afterwards.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), LineError> {
        let limit = Duration::from_secs(2) + self.air_time(bytes.len());
        self.port
            .set_timeout(limit)
            .map_err(|cause| self.error("set a deadline", cause))?;
        self.port
            .write_all(bytes)
            .map_err(|cause| self.error("write", cause))
    }

    /// Fills the buffer; `false` when the time was over before. What this side sent last (`sent` bytes) and what is to
    /// come may take its time on the line, on top of the limit.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        sent: usize,
        limit: Duration,
    ) -> Result<bool, LineError> {
        let end = Instant::now() + limit + self.air_time(sent + buffer.len());
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.port.set_timeout(left).map_err(|cause| LineError {
                device: self.device.clone(),
                action: "set a deadline",
                cause: cause.to_string(),
            })?;
            match self.port.read(rest) {
                Ok(0) => return Err(self.error("read", "it was closed")),
                Ok(count) => filled += count,
                Err(cause) if cause.kind() == io::ErrorKind::TimedOut => return Ok(false),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.error("read", cause)),
            }
        }
        Ok(true)
    }

    /// The next byte, if one comes in time.
    pub fn receive_byte(&mut self, sent: usize, limit: Duration) -> Result<Option<u8>, LineError> {
        let mut byte = [0];
        let came = self.receive(&mut byte, sent, limit)?;
        Ok(came.then_some(byte[0]))
    }

    /// Drops what has come, until nothing comes for this long.
    pub fn drain(&mut self, quiet: Duration) -> Result<(), LineError> {
        self.port
            .clear(ClearBuffer::Input)
            .map_err(|cause| self.error("clear it", cause))?;
        // a line that never falls silent has to be left at some time
        for _ in 0..4096 {
            if self.receive_byte(0, quiet)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Makes a pin active or not.
    pub fn set(&mut self, pin: Pin, active: bool) -> Result<(), LineError> {
        let done = match pin {
            Pin::Rts => self.port.write_request_to_send(active),
            Pin::RtsInverted => self.port.write_request_to_send(!active),
            Pin::Dtr => self.port.write_data_terminal_ready(active),
            Pin::DtrInverted => self.port.write_data_terminal_ready(!active),
        };
        done.map_err(|cause| self.error("set a control line", cause))
    }
}

/// Has the control lines stay as they are when the port is closed: a line that falls back by itself may hold the
/// microcontroller in reset, or have it start its bootloader the next time.
fn keep_lines(device: &Path) -> io::Result<()> {
    let port = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits())
        .open(device)?;
    let mut settings = tcgetattr(&port)?;
    settings.control_flags.remove(ControlFlags::HUPCL);
    tcsetattr(&port, SetArg::TCSANOW, &settings)?;
    Ok(())
}

fn name(device: &Path) -> String {
    device.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_bootloader_gets_even_parity() {
        // pseudo-terminals have no parity, so that no test of the whole can see it
        assert_eq!(parity(Protocol::Stm32), Parity::Even);
        assert_eq!(parity(Protocol::Xmodem), Parity::None);
    }
}
