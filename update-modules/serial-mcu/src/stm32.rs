//! The UART protocol of the STM32 system bootloader, as ST's application note AN3155 has it.

use std::time::Duration;

use crate::config::Target;
use crate::line::{Line, LineError};
use crate::target::Page;

const ACK: u8 = 0x79;
const NACK: u8 = 0x1F;
const SYNC: u8 = 0x7F;
const GET: u8 = 0x00;
const GET_ID: u8 = 0x02;
const READ: u8 = 0x11;
const GO: u8 = 0x21;
const WRITE: u8 = 0x31;
const ERASE: u8 = 0x43;
const EXTENDED_ERASE: u8 = 0x44;
/// Completes no command, address, length or list of pages that would be accepted (0xFF 0x00 would erase everything), and
/// as data changes nothing: erased flash holds it.
const FILLER: u8 = 0xFF;

/// The most that one command reads or writes.
const BLOCK: usize = 256;
/// Pages that one command erases at most; the bootloaders' buffers are small.
const PAGES: usize = 128;
/// Enough to fill up the longest frame, whose rest the bootloader may wait for.
const RESYNC_TRIES: usize = BLOCK + 4;
/// The answer to a single byte comes at once.
const RESYNC_TIME: Duration = Duration::from_millis(50);
/// What is left of a broken answer comes without pauses.
const QUIET: Duration = Duration::from_millis(20);

/// Why the bootloader did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum BootloaderError {
    /// The port is broken.
    #[error(transparent)]
    Line(#[from] LineError),
    /// Nobody answers to the synchronisation byte.
    #[error(
        "no bootloader answers: check wiring, baud rate, and that reset and BOOT0 (or 'enter_command') start it"
    )]
    Silent,
    /// Refused as a whole, again and again.
    #[error(
        "the bootloader refuses to {what}: the flash is protected (readout or write protection, option bytes); nothing was unprotected, because that erases it"
    )]
    Protected {
        /// The step.
        what: String,
    },
    /// A step failed as often as it may.
    #[error("cannot {what} in {tries} tries: the last time {fault}")]
    Failed {
        /// The step.
        what: String,
        /// How often it was tried.
        tries: u32,
        /// What happened the last time.
        fault: Fault,
    },
    /// The bootloader lacks a command.
    #[error("the bootloader (version {version:#04x}) has no command to erase")]
    NoErase {
        /// Its version.
        version: u8,
    },
    /// What was read back is not what was written.
    #[error("the flash at {address:#010x} does not hold what was written")]
    Different {
        /// Where.
        address: u32,
    },
}

/// What went wrong in one try.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The port is broken: no use to try again.
    #[error(transparent)]
    Line(#[from] LineError),
    /// No answer in time.
    #[error("there was no answer")]
    Silence,
    /// The command was refused.
    #[error("the command was refused")]
    Refused,
    /// An address, length or block was refused.
    #[error("it was refused")]
    Nack,
    /// Neither yes nor no.
    #[error("the answer was {0:#04x}, neither ACK nor NACK")]
    Noise(u8),
    /// Two readings differ.
    #[error("two readings of the same place differ")]
    Unsteady,
}

/// A bootloader that answers.
pub struct Bootloader<'a> {
    line: &'a mut Line,
    answer: Duration,
    erase: Duration,
    tries: u32,
    version: u8,
    erase_command: Option<u8>,
}

impl<'a> Bootloader<'a> {
    /// Sets the baud rate of the bootloader, which it takes from the first byte, and asks what it can.
    pub fn connect(line: &'a mut Line, target: &Target) -> Result<Self, BootloaderError> {
        let mut bootloader = Self {
            line,
            answer: target.answer_time(),
            erase: target.erase_time(),
            tries: target.tries,
            version: 0,
            erase_command: None,
        };
        bootloader.synchronise()?;
        let (version, commands) = bootloader.retry("ask for the commands", Self::get)?;
        bootloader.version = version;
        bootloader.erase_command = [EXTENDED_ERASE, ERASE]
            .into_iter()
            .find(|command| commands.contains(command));
        let id = bootloader.retry("ask for the kind of chip", Self::id)?;
        eprintln!(
            "serial-mcu: bootloader version {}.{}, chip {id:#06x}",
            version >> 4,
            version & 15
        );
        Ok(bootloader)
    }

    fn synchronise(&mut self) -> Result<(), BootloaderError> {
        for _ in 0..self.tries {
            self.line.drain(QUIET)?;
            self.line.send(&[SYNC])?;
            // NACK: it was in step already
            if let Some(ACK | NACK) = self.line.receive_byte(1, self.answer)? {
                return Ok(());
            }
        }
        // it may be in step and wait for the rest of a command
        self.resync().map_err(|fault| match fault {
            Fault::Line(error) => error.into(),
            _ => BootloaderError::Silent,
        })
    }

    /// After a broken exchange: brings the bootloader back to where it waits for a command. Byte by byte, so that it
    /// refuses at the last one that it took and not in the middle of what follows.
    fn resync(&mut self) -> Result<(), Fault> {
        self.line.drain(QUIET)?;
        for _ in 0..RESYNC_TRIES {
            self.line.send(&[FILLER])?;
            if self.line.receive_byte(1, RESYNC_TIME)? == Some(NACK) {
                self.line.drain(QUIET)?;
                return Ok(());
            }
        }
        Err(Fault::Silence)
    }

    fn retry<T>(
        &mut self,
        what: &str,
        mut step: impl FnMut(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, BootloaderError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut result = step(self);
            if tries < self.tries && result.is_err() {
                match self.resync() {
                    Ok(()) => continue,
                    Err(fault) => result = Err(fault),
                }
            }
            return result.map_err(|fault| match fault {
                Fault::Line(error) => error.into(),
                Fault::Refused => BootloaderError::Protected {
                    what: what.to_owned(),
                },
                fault => BootloaderError::Failed {
                    what: what.to_owned(),
                    tries,
                    fault,
                },
            });
        }
    }

    /// Sends bytes and waits for the acknowledgement.
    fn exchange(&mut self, bytes: &[u8], limit: Duration) -> Result<(), Fault> {
        self.line.send(bytes)?;
        match self.line.receive_byte(bytes.len(), limit)? {
            Some(ACK) => Ok(()),
            Some(NACK) => Err(Fault::Nack),
            Some(other) => Err(Fault::Noise(other)),
            None => Err(Fault::Silence),
        }
    }

    fn command(&mut self, command: u8) -> Result<(), Fault> {
        match self.exchange(&[command, !command], self.answer) {
            Err(Fault::Nack) => Err(Fault::Refused),
            other => other,
        }
    }

    fn address(&mut self, address: u32) -> Result<(), Fault> {
        self.exchange(&with_checksum(&address.to_be_bytes()), self.answer)
    }

    fn receive(&mut self, count: usize) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; count];
        if self.line.receive(&mut bytes, 0, self.answer)? {
            Ok(bytes)
        } else {
            Err(Fault::Silence)
        }
    }

    /// A number of bytes less one, the bytes, and the acknowledgement.
    fn counted(&mut self) -> Result<Vec<u8>, Fault> {
        let count = self.receive(1)?.first().copied().unwrap_or_default();
        let bytes = self.receive(usize::from(count) + 1)?;
        match self.receive(1)?.first() {
            Some(&ACK) => Ok(bytes),
            Some(&other) => Err(Fault::Noise(other)),
            None => Err(Fault::Silence),
        }
    }

    /// Version and commands.
    fn get(&mut self) -> Result<(u8, Vec<u8>), Fault> {
        self.command(GET)?;
        let mut bytes = self.counted()?;
        let version = bytes.remove(0);
        Ok((version, bytes))
    }

    fn id(&mut self) -> Result<u32, Fault> {
        self.command(GET_ID)?;
        Ok(self
            .counted()?
            .iter()
            .fold(0, |id, &byte| id << 8 | u32::from(byte)))
    }

    fn read_block(&mut self, address: u32, count: usize) -> Result<Vec<u8>, Fault> {
        let less_one = (count - 1) as u8;
        self.command(READ)?;
        self.address(address)?;
        self.exchange(&[less_one, !less_one], self.answer)?;
        self.receive(count)
    }

    /// Reads a range. The protocol has no checksum in this direction, so everything is read until two readings agree.
    pub fn read(&mut self, start: u32, count: usize) -> Result<Vec<u8>, BootloaderError> {
        let mut content = Vec::with_capacity(count);
        let mut progress = Progress::new("saved", count);
        while content.len() < count {
            let address = start + content.len() as u32;
            let size = BLOCK.min(count - content.len());
            let block = self.retry(&format!("read the flash at {address:#010x}"), |this| {
                let first = this.read_block(address, size)?;
                let second = this.read_block(address, size)?;
                if first == second {
                    Ok(first)
                } else {
                    Err(Fault::Unsteady)
                }
            })?;
            content.extend(block);
            progress.at(content.len());
        }
        Ok(content)
    }

    /// Erases these pages.
    pub fn erase(&mut self, pages: &[Page]) -> Result<(), BootloaderError> {
        let command = self.has_erase()?;
        for some in pages.chunks(PAGES) {
            let frame = erase_frame(command, some);
            self.retry("erase the flash", |this| this.erase_with(command, &frame))?;
        }
        Ok(())
    }

    /// Erases everything.
    pub fn erase_all(&mut self) -> Result<(), BootloaderError> {
        let command = self.has_erase()?;
        let frame: &[u8] = if command == EXTENDED_ERASE {
            &[0xFF, 0xFF, 0x00]
        } else {
            &[0xFF, 0x00]
        };
        self.retry("erase the flash", |this| this.erase_with(command, frame))
    }

    fn has_erase(&self) -> Result<u8, BootloaderError> {
        self.erase_command.ok_or(BootloaderError::NoErase {
            version: self.version,
        })
    }

    fn erase_with(&mut self, command: u8, frame: &[u8]) -> Result<(), Fault> {
        self.command(command)?;
        self.exchange(frame, self.erase)
    }

    /// Writes an image into erased flash.
    pub fn write(&mut self, start: u32, image: &[u8]) -> Result<(), BootloaderError> {
        let mut progress = Progress::new("written", image.len());
        let mut address = start;
        for block in image.chunks(BLOCK) {
            let mut again = false;
            self.retry(&format!("write the flash at {address:#010x}"), |this| {
                // what got lost may have been the acknowledgement only, and flash is not written twice
                if again && this.read_block(address, block.len())? == block {
                    return Ok(());
                }
                again = true;
                this.command(WRITE)?;
                this.address(address)?;
                this.exchange(&write_frame(block), this.answer)
            })?;
            address += block.len() as u32;
            progress.at((address - start) as usize);
        }
        Ok(())
    }

    /// Compares the flash with an image.
    pub fn verify(&mut self, start: u32, image: &[u8]) -> Result<(), BootloaderError> {
        let mut address = start;
        for block in image.chunks(BLOCK) {
            let read = self.retry(&format!("read the flash at {address:#010x}"), |this| {
                let first = this.read_block(address, block.len())?;
                if first == block {
                    return Ok(first);
                }
                let second = this.read_block(address, block.len())?;
                if first == second {
                    Ok(first)
                } else {
                    Err(Fault::Unsteady)
                }
            })?;
            if read != block {
                return Err(BootloaderError::Different { address });
            }
            address += block.len() as u32;
        }
        Ok(())
    }

    /// Starts what the vector table at this address says.
    pub fn go(&mut self, address: u32) -> Result<(), BootloaderError> {
        self.retry("start the application", |this| {
            this.command(GO)?;
            this.address(address)
        })
    }
}

fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut frame = bytes.to_vec();
    frame.push(bytes.iter().fold(0, |sum, byte| sum ^ byte));
    frame
}

/// Number of bytes less one, the bytes up to a multiple of four, and the checksum.
fn write_frame(block: &[u8]) -> Vec<u8> {
    let padded = block.len().next_multiple_of(4);
    let mut frame = vec![(padded - 1) as u8];
    frame.extend(block);
    frame.resize(1 + padded, 0xFF);
    with_checksum(&frame)
}

fn erase_frame(command: u8, pages: &[Page]) -> Vec<u8> {
    let less_one = (pages.len() - 1) as u16;
    let numbers = std::iter::once(less_one).chain(pages.iter().map(|page| page.number));
    let bytes: Vec<u8> = if command == EXTENDED_ERASE {
        numbers.flat_map(u16::to_be_bytes).collect()
    } else {
        numbers.map(|number| number as u8).collect()
    };
    with_checksum(&bytes)
}

/// Says how far it is, every tenth.
struct Progress {
    done: &'static str,
    total: usize,
    said: usize,
}

impl Progress {
    fn new(done: &'static str, total: usize) -> Self {
        Self {
            done,
            total,
            said: 0,
        }
    }

    fn at(&mut self, count: usize) {
        let tenth = count * 10 / self.total.max(1);
        if tenth > self.said {
            self.said = tenth;
            eprintln!("serial-mcu: {count} of {} bytes {}", self.total, self.done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_application_note() {
        assert_eq!(
            with_checksum(&[0x08, 0x00, 0x01, 0x00]),
            [0x08, 0x00, 0x01, 0x00, 0x09]
        );
        assert_eq!(write_frame(&[1, 2, 3]), [3, 1, 2, 3, 0xFF, 2 ^ 1 ^ 0xFF]);
        assert_eq!(write_frame(&[0; 256]).len(), 258);
        let pages: Vec<Page> = [3, 4]
            .map(|number| Page {
                number,
                start: 0,
                size: 1024,
            })
            .into();
        assert_eq!(erase_frame(ERASE, &pages), [1, 3, 4, 1 ^ 3 ^ 4]);
        assert_eq!(
            erase_frame(EXTENDED_ERASE, &pages),
            [0, 1, 0, 3, 0, 4, 1 ^ 3 ^ 4]
        );
    }
}
