//! The whole module against a simulated STM32: a system bootloader after AN3155 on a pseudo-terminal, with faults.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::sync::{Arc, Mutex};

use support::{Board, Pins, Stop, noise};

const BASE: u32 = 0x0800_0000;
const PAGE: usize = 512;
const FLASH: usize = 8 * PAGE;
const YES: u8 = 0x79;
const NO: u8 = 0x1F;

/// What the bootloader does in place of one of its answers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ailment {
    /// Refuses.
    Nack,
    /// Sends a byte more.
    Noise,
    /// Does what it was told, and the last byte of the answer is lost.
    Lost,
    /// Neither does nor says anything.
    Silence,
    /// The power goes while it is at it.
    PowerCut,
}

struct Chip {
    flash: Vec<u8>,
    extended: bool,
    protected: bool,
    /// A byte that can only be erased.
    stuck: Option<usize>,
    /// Which answer, counted from 1.
    ailment: Option<(usize, Ailment)>,
    answers: usize,
    log: Vec<String>,
    runs_application: bool,
}

impl Chip {
    fn new() -> Self {
        Self {
            flash: old(),
            extended: true,
            protected: false,
            stuck: None,
            ailment: None,
            answers: 0,
            log: Vec::new(),
            runs_application: true,
        }
    }
}

fn old() -> Vec<u8> {
    let mut flash = noise(FLASH, 7);
    flash[3 * PAGE..].fill(0xFF);
    flash
}

fn image() -> Vec<u8> {
    noise(PAGE + 2 * 77, 8)
}

/// The flash after the update: the pages of the image are erased, the rest is as before.
fn new() -> Vec<u8> {
    let mut flash = old();
    flash[..2 * PAGE].fill(0xFF);
    flash[..image().len()].copy_from_slice(&image());
    flash
}

/// The ROM: pins and chip.
struct Rom {
    pins: Pins,
    chip: Arc<Mutex<Chip>>,
}

fn rom(pins: Pins, chip: Arc<Mutex<Chip>>) {
    let mut rom = Rom { pins, chip };
    loop {
        let Err(stop) = rom.life();
        if let Stop::End = stop {
            return;
        }
    }
}

impl Rom {
    fn life(&mut self) -> Result<std::convert::Infallible, Stop> {
        self.chip.lock().unwrap().runs_application = !self.pins.bootloader;
        self.pins.started();
        if self.pins.bootloader {
            while self.pins.byte()? != 0x7F {}
            self.answer(&[YES]);
            while !self.chip.lock().unwrap().runs_application {
                self.command()?;
            }
        }
        // the application does not listen
        loop {
            self.pins.byte()?;
        }
    }

    /// Answers, or does what ails it. Whether the bootloader goes on with what it was told.
    fn answer(&mut self, bytes: &[u8]) -> bool {
        let ailment = {
            let mut chip = self.chip.lock().unwrap();
            chip.answers += 1;
            let now = chip.answers;
            chip.ailment
                .filter(|(at, _)| *at == now)
                .map(|(_, ailment)| ailment)
        };
        match ailment {
            None => self.pins.send(bytes),
            Some(Ailment::Nack) => self.pins.send(&[NO]),
            Some(Ailment::Noise) => self.pins.send(&[&[0x55], bytes].concat()),
            Some(Ailment::Lost) => self.pins.send(&bytes[..bytes.len() - 1]),
            Some(Ailment::Silence) => {}
            Some(Ailment::PowerCut) => self.pins.cut_power(),
        }
        !matches!(
            ailment,
            Some(Ailment::Nack | Ailment::Silence | Ailment::PowerCut)
        )
    }

    fn dies_next(&self) -> bool {
        let chip = self.chip.lock().unwrap();
        chip.ailment == Some((chip.answers + 1, Ailment::PowerCut))
    }

    fn refuse(&mut self) {
        self.answer(&[NO]);
    }

    fn command(&mut self) -> Result<(), Stop> {
        let (command, complement) = (self.pins.byte()?, self.pins.byte()?);
        let (extended, protected) = {
            let chip = self.chip.lock().unwrap();
            (chip.extended, chip.protected)
        };
        let erase = if extended { 0x44 } else { 0x43 };
        let guarded = command != 0x00 && command != 0x02;
        let known = [0x00, 0x02, 0x11, 0x21, 0x31, erase].contains(&command);
        if command ^ complement != 0xFF || !known || (protected && guarded) {
            self.refuse();
            return Ok(());
        }
        match command {
            0x00 => {
                self.answer(&[YES, 6, 0x31, 0x00, 0x02, 0x11, 0x21, 0x31, erase, YES]);
            }
            0x02 => {
                self.answer(&[YES, 1, 0x04, 0x10, YES]);
            }
            0x11 => self.read()?,
            0x21 => self.go()?,
            0x31 => self.write()?,
            _ => self.erase(extended)?,
        }
        Ok(())
    }

    fn frame(&mut self, count: usize) -> Result<Option<Vec<u8>>, Stop> {
        let mut bytes = Vec::new();
        for _ in 0..count {
            bytes.push(self.pins.byte()?);
        }
        self.checked(bytes)
    }

    fn checked(&mut self, bytes: Vec<u8>) -> Result<Option<Vec<u8>>, Stop> {
        let sum = self.pins.byte()?;
        if bytes.iter().fold(0, |sum, byte| sum ^ byte) == sum {
            return Ok(Some(bytes));
        }
        self.refuse();
        Ok(None)
    }

    /// The offset of an address that was acknowledged.
    fn offset(&mut self) -> Result<Option<usize>, Stop> {
        let Some(bytes) = self.frame(4)? else {
            return Ok(None);
        };
        let address = u32::from_be_bytes(bytes.try_into().unwrap());
        match address.checked_sub(BASE).map(|offset| offset as usize) {
            Some(offset) if offset < FLASH => Ok(self.answer(&[YES]).then_some(offset)),
            _ => {
                self.refuse();
                Ok(None)
            }
        }
    }

    fn read(&mut self) -> Result<(), Stop> {
        if !self.answer(&[YES]) {
            return Ok(());
        }
        let Some(offset) = self.offset()? else {
            return Ok(());
        };
        let (count, complement) = (self.pins.byte()?, self.pins.byte()?);
        if count ^ complement != 0xFF {
            self.refuse();
            return Ok(());
        }
        let end = (offset + usize::from(count) + 1).min(FLASH);
        let content = self.chip.lock().unwrap().flash[offset..end].to_vec();
        self.answer(&[&[YES], content.as_slice()].concat());
        Ok(())
    }

    fn write(&mut self) -> Result<(), Stop> {
        if !self.answer(&[YES]) {
            return Ok(());
        }
        let Some(offset) = self.offset()? else {
            return Ok(());
        };
        let count = self.pins.byte()?;
        let mut bytes = vec![count];
        for _ in 0..=usize::from(count) {
            bytes.push(self.pins.byte()?);
        }
        let Some(mut bytes) = self.checked(bytes)? else {
            return Ok(());
        };
        bytes.remove(0);
        assert_eq!(bytes.len() % 4, 0, "words only");
        if self.dies_next() {
            self.program(offset, &bytes[..bytes.len() / 2]);
        }
        if self.answer(&[YES]) {
            self.program(offset, &bytes);
        }
        Ok(())
    }

    /// Writing only clears bits.
    fn program(&mut self, offset: usize, bytes: &[u8]) {
        let mut chip = self.chip.lock().unwrap();
        for (place, byte) in (offset..).zip(bytes) {
            if chip.stuck != Some(place) {
                chip.flash[place] &= byte;
            }
        }
    }

    fn go(&mut self) -> Result<(), Stop> {
        if !self.answer(&[YES]) {
            return Ok(());
        }
        let Some(bytes) = self.frame(4)? else {
            return Ok(());
        };
        let offset = u32::from_be_bytes(bytes.try_into().unwrap()) - BASE;
        {
            let mut chip = self.chip.lock().unwrap();
            chip.log.push(format!("go {offset}"));
            chip.runs_application = true;
        }
        // the test looks as soon as the module has this answer
        self.answer(&[YES]);
        Ok(())
    }

    fn erase(&mut self, extended: bool) -> Result<(), Stop> {
        if !self.answer(&[YES]) {
            return Ok(());
        }
        let width = if extended { 2 } else { 1 };
        let mut bytes = vec![self.pins.byte()?];
        if extended {
            bytes.push(self.pins.byte()?);
        }
        let mass = bytes.iter().all(|&byte| byte == 0xFF);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, &byte| n << 8 | usize::from(byte));
        let mut pages: Vec<usize> = (0..8).collect();
        if mass {
            // 0xFFFF is followed by its checksum, 0xFF by its complement: both are 0
            if self.pins.byte()? != 0 {
                self.refuse();
                return Ok(());
            }
        } else {
            for _ in 0..(number(&bytes) + 1) * width {
                bytes.push(self.pins.byte()?);
            }
            let Some(bytes) = self.checked(bytes)? else {
                return Ok(());
            };
            pages = bytes[width..].chunks(width).map(number).collect();
        }
        if pages.iter().any(|&page| page >= 8) {
            self.refuse();
            return Ok(());
        }
        if self.dies_next() {
            // the first page is gone already
            self.clear(&pages[..1]);
        }
        if self.answer(&[YES]) {
            self.clear(&pages);
        }
        Ok(())
    }

    fn clear(&mut self, pages: &[usize]) {
        let mut chip = self.chip.lock().unwrap();
        chip.log.push(format!("erase {pages:?}"));
        for page in pages {
            chip.flash[page * PAGE..(page + 1) * PAGE].fill(0xFF);
        }
    }
}

const SETTINGS: &str = "protocol = 'stm32'\npage_size = 512\nflash_size = 4096\nanswer_ms = 200\n";

fn board() -> Board<Chip> {
    let board = Board::new(Chip::new(), rom);
    board.configure(SETTINGS);
    board.put("firmware.bin", &image());
    board
}

fn flash(board: &Board<Chip>) -> Vec<u8> {
    let chip = board.chip.lock().unwrap();
    assert!(chip.runs_application, "it sits in its bootloader");
    chip.flash.clone()
}

#[test]
fn an_image_is_written_and_the_old_flash_comes_back() {
    for extended in [true, false] {
        let board = board();
        board.chip.lock().unwrap().extended = extended;
        assert_eq!(board.call("SupportsRollback").unwrap(), "Yes\n");
        board.call("ArtifactRollback").unwrap(); // before anything was done
        assert_eq!(board.chip.lock().unwrap().answers, 0);
        board.call("ArtifactInstall").unwrap();
        assert!(flash(&board) == new());
        assert_eq!(board.chip.lock().unwrap().log, ["erase [0, 1]"]);
        board.call("ArtifactInstall").unwrap();
        assert!(flash(&board) == new());
        board.give_up();
        assert!(flash(&board) == old(), "also beyond the end of the image");
        board.start_over();
        board.put("firmware.bin", &image());
        board.call("ArtifactInstall").unwrap();
        board.commit();
        assert!(flash(&board) == new());
    }
}

#[test]
fn a_mass_erasure_saves_and_restores_everything() {
    let board = board();
    board.configure(&format!("{SETTINGS}erase = 'mass'\naddress = 0x08000200"));
    board.call("ArtifactInstall").unwrap();
    let mut wanted = vec![0xFF; FLASH];
    wanted[PAGE..PAGE + image().len()].copy_from_slice(&image());
    assert!(flash(&board) == wanted);
    board.give_up();
    assert!(flash(&board) == old());
}

#[test]
fn the_bootloader_starts_the_application_where_nothing_else_can() {
    let board = board();
    board.configure_bare(&format!("{SETTINGS}address = 0x08000200"));
    board.call("ArtifactInstall").unwrap();
    assert_eq!(board.chip.lock().unwrap().log, ["erase [1, 2]", "go 512"]);
    assert!(board.chip.lock().unwrap().runs_application);
}

#[test]
fn the_configured_baud_rate_is_set() {
    let board = board();
    board.configure(&format!("{SETTINGS}baud = 57600"));
    board.call("ArtifactInstall").unwrap();
    assert_eq!(board.baud(), 57_600);
}

#[test]
fn control_lines_are_named_when_there_are_none_and_stay_where_there_are() {
    let board = board();
    assert!(board.hangs_up());
    board.configure_lines(SETTINGS);
    let error = board.call("ArtifactInstall").unwrap_err();
    assert!(error.contains("cannot set a control line"), "{error}");
    assert!(!board.hangs_up());
    board.configure(SETTINGS);
    board.give_up();
    assert!(flash(&board) == old());
}

#[test]
fn a_protected_flash_is_told_and_left_alone() {
    let board = board();
    board.chip.lock().unwrap().protected = true;
    let error = board.call("ArtifactInstall").unwrap_err();
    assert!(
        error.contains("refuses to read the flash at 0x08000000: the flash is protected"),
        "{error}"
    );
    board.give_up();
    assert!(flash(&board) == old());
}

#[test]
fn nobody_there_is_told_too() {
    let board = board();
    board.chip.lock().unwrap().ailment = None;
    // the command starts the application, which does not answer
    let deaf = format!("{SETTINGS}tries = 1\n").replace("200", "20");
    board.configure(&deaf);
    let config = std::fs::read_to_string(board.path("config.toml")).unwrap();
    std::fs::write(
        board.path("config.toml"),
        config.replace("printf b", "printf a"),
    )
    .unwrap();
    let error = board.call("ArtifactInstall").unwrap_err();
    assert!(error.contains("no bootloader answers"), "{error}");
    board.give_up();
    assert!(flash(&board) == old());
}

#[test]
fn a_cell_that_does_not_hold_is_found() {
    let board = board();
    let place = image().iter().position(|&byte| byte != 0xFF).unwrap();
    {
        let mut chip = board.chip.lock().unwrap();
        chip.stuck = Some(place);
        chip.flash[place] = 0xFF;
    }
    let error = board.call("ArtifactInstall").unwrap_err();
    assert!(
        error.contains("the flash at 0x08000000 does not hold"),
        "{error}"
    );
    assert!(error.contains("erasing and writing once more"), "{error}");
    board.give_up();
    let mut wanted = old();
    wanted[place] = 0xFF;
    assert!(flash(&board) == wanted);
}

#[test]
fn what_cannot_be_installed_is_refused_before_anything_is_touched() {
    let board = board();
    board.put("firmware.bin", &noise(FLASH + 1, 9));
    assert!(
        board
            .call("ArtifactInstall")
            .unwrap_err()
            .contains("does not fit")
    );
    board.put("firmware.bin", b"");
    assert!(board.call("ArtifactInstall").unwrap_err().contains("empty"));
    board.put("target", b"other\n");
    assert!(
        board
            .call("ArtifactInstall")
            .unwrap_err()
            .contains("'other'")
    );
    assert_eq!(board.chip.lock().unwrap().answers, 0);
}

/// Answers in one installation without a fault.
fn answers() -> usize {
    let board = board();
    board.call("ArtifactInstall").unwrap();
    let chip = board.chip.lock().unwrap();
    chip.answers
}

#[test]
fn one_fault_anywhere_is_overcome() {
    let board = board();
    // short of a machine that is very busy, no answer takes that long
    board.configure(&SETTINGS.replace("answer_ms = 200", "answer_ms = 300"));
    let kinds = [
        Ailment::Nack,
        Ailment::Noise,
        Ailment::Lost,
        Ailment::Silence,
    ];
    for at in 1..=answers() {
        let kind = kinds[at % kinds.len()];
        board.start_over();
        board.put("firmware.bin", &image());
        {
            let mut chip = board.chip.lock().unwrap();
            chip.flash = old();
            chip.answers = 0;
            chip.ailment = Some((at, kind));
        }
        let done = board.call("ArtifactInstall");
        assert!(done.is_ok(), "{kind:?} at {at}: {done:?}");
        assert!(flash(&board) == new(), "{kind:?} at {at}");
        assert!(
            std::fs::read(board.note("previous")).unwrap() == old()[..2 * PAGE],
            "{kind:?} at {at}: what was saved"
        );
        board.chip.lock().unwrap().ailment = None;
        if at % 8 == 0 {
            board.give_up();
            assert!(flash(&board) == old(), "{kind:?} at {at}");
        }
    }
}

#[test]
fn a_power_cut_at_any_moment_is_rolled_back() {
    let board = board();
    let last = answers();
    for at in 1..=last {
        for when in ["ArtifactInstall", "ArtifactRollback"] {
            board.start_over();
            board.put("firmware.bin", &image());
            if when == "ArtifactRollback" {
                board.call("ArtifactInstall").unwrap();
            }
            {
                let mut chip = board.chip.lock().unwrap();
                chip.answers = 0;
                chip.ailment = Some((at, Ailment::PowerCut));
            }
            // a rollback has fewer steps
            let cut = board.call(when).is_err();
            assert!(cut || when == "ArtifactRollback", "{at}");
            board.chip.lock().unwrap().ailment = None;
            board.give_up();
            assert!(flash(&board) == old(), "{when} {at}");
        }
    }
}
