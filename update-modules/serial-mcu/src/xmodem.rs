//! Sending by XMODEM: blocks of 128 or 1024 bytes, with CRC or checksum as the receiver asks.

use std::time::Duration;

use crate::config::Target;
use crate::line::{Line, LineError};

const SOH: u8 = 0x01;
const STX: u8 = 0x02;
const EOT: u8 = 0x04;
const ACK: u8 = 0x06;
const NAK: u8 = 0x15;
const CAN: u8 = 0x18;
const CRC: u8 = b'C';

/// Small blocks are all that a receiver with checksums has to know.
const SMALL: usize = 128;
/// After a block was sent twice a second answer to it may be under way.
const QUIET: Duration = Duration::from_millis(100);

/// Why the transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The port is broken.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The receiver did not ask for anything.
    #[error(
        "no receiver asks for an image: check wiring, baud rate, and that 'enter_command' and 'greeting' start it"
    )]
    Silent,
    /// The receiver ended it.
    #[error("the receiver cancelled the transfer at {what}")]
    Cancelled {
        /// Which block.
        what: String,
    },
    /// A block was sent as often as it may.
    #[error("{what} was not accepted in {tries} tries")]
    Failed {
        /// Which block.
        what: String,
        /// How often it was sent.
        tries: u32,
    },
}

/// How the receiver checks blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Crc,
    Sum,
}

/// A receiver that waits for an image.
pub struct Sender<'a> {
    line: &'a mut Line,
    target: &'a Target,
    check: Check,
}

impl<'a> Sender<'a> {
    /// Waits until the receiver asks for an image. Nothing has changed until then.
    pub fn connect(line: &'a mut Line, target: &'a Target) -> Result<Self, TransferError> {
        line.drain(Duration::from_millis(1))?;
        if let Some(greeting) = &target.greeting {
            line.send(greeting.as_bytes())?;
        }
        let check = wait_for_request(line, target)?;
        Ok(Self {
            line,
            target,
            check,
        })
    }

    /// Sends an image, filled up to a whole block.
    pub fn send(mut self, image: &[u8]) -> Result<(), TransferError> {
        let sent = self.transfer(image);
        if sent.is_err() {
            // the receiver need not wait for a block that never comes
            let _ = self.line.send(&[CAN, CAN, CAN]);
        }
        sent
    }

    fn transfer(&mut self, image: &[u8]) -> Result<(), TransferError> {
        let check = self.check;
        let mut number: u8 = 1;
        let mut rest = image;
        while !rest.is_empty() {
            // the end goes in small blocks where a large one would be filling for the most part
            let size = match check {
                Check::Crc
                    if self.target.block > SMALL && rest.len() > self.target.block - SMALL =>
                {
                    self.target.block
                }
                _ => SMALL,
            };
            let (data, tail) = rest.split_at(size.min(rest.len()));
            let sent = image.len() - rest.len();
            let mut block = data.to_vec();
            block.resize(size, self.target.padding);
            let frame = frame(number, &block, check);
            self.deliver(&frame, &format!("the block at byte {sent}"), sent == 0)?;
            number = number.wrapping_add(1);
            if (image.len() - tail.len()) * 10 / image.len() > sent * 10 / image.len() {
                eprintln!(
                    "serial-mcu: {} of {} bytes sent",
                    image.len() - tail.len(),
                    image.len()
                );
            }
            rest = tail;
        }
        self.deliver(&[EOT], "the end of the image", false)
    }

    /// Sends a block until it is acknowledged.
    fn deliver(&mut self, frame: &[u8], what: &str, first: bool) -> Result<(), TransferError> {
        for n in 1..=self.target.tries {
            self.line.send(frame)?;
            if self.is_taken(frame.len(), what, first)? {
                if n > 1 {
                    self.line.drain(QUIET)?;
                }
                return Ok(());
            }
        }
        Err(TransferError::Failed {
            what: what.to_owned(),
            tries: self.target.tries,
        })
    }

    /// Waits for the answer to a block: `false` when it has to be sent again.
    fn is_taken(&mut self, sent: usize, what: &str, first: bool) -> Result<bool, TransferError> {
        let mut cancels = 0;
        loop {
            match self.line.receive_byte(sent, self.target.answer_time())? {
                Some(ACK) => return Ok(true),
                Some(NAK) | None => return Ok(false),
                // one alone may be noise
                Some(CAN) if cancels == 1 => {
                    return Err(TransferError::Cancelled {
                        what: what.to_owned(),
                    });
                }
                Some(CAN) => cancels += 1,
                // it has not seen the first block and asks again
                Some(CRC) if first => return Ok(false),
                Some(_) => cancels = 0,
            }
        }
    }
}

/// A receiver that wants CRC says so, and changes over to checksums when nobody answers.
fn wait_for_request(line: &mut Line, target: &Target) -> Result<Check, TransferError> {
    let mut cancels = 0;
    // as many bytes as the text that a bootloader may greet with
    for _ in 0..4096 {
        match line.receive_byte(0, target.answer_time().max(Duration::from_secs(1)))? {
            Some(CRC) => return Ok(Check::Crc),
            Some(NAK) => return Ok(Check::Sum),
            Some(CAN) if cancels == 1 => {
                let what = "the beginning".to_owned();
                return Err(TransferError::Cancelled { what });
            }
            Some(CAN) => cancels += 1,
            Some(_) => cancels = 0,
            None => break,
        }
    }
    Err(TransferError::Silent)
}

fn frame(number: u8, block: &[u8], check: Check) -> Vec<u8> {
    let start = if block.len() == SMALL { SOH } else { STX };
    let mut frame = vec![start, number, !number];
    frame.extend(block);
    match check {
        Check::Crc => frame.extend(crc16(block).to_be_bytes()),
        Check::Sum => frame.push(
            block
                .iter()
                .fold(0, |sum: u8, byte| sum.wrapping_add(*byte)),
        ),
    }
    frame
}

/// CRC-16 with the polynomial 0x1021, from 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_xmodem() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        let block = [1; SMALL];
        assert_eq!(frame(2, &block, Check::Sum)[..3], [SOH, 2, 0xFD]);
        assert_eq!(frame(2, &block, Check::Sum)[131], 128);
        assert_eq!(frame(255, &[0; 1024], Check::Crc).len(), 1029);
    }
}
