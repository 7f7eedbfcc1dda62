//! The whole module against a simulated receiver of XMODEM on a pseudo-terminal, with faults.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use std::sync::{Arc, Mutex};

use support::{Board, Pins, Stop, noise};

const ACK: u8 = 0x06;
const NAK: u8 = 0x15;
const CAN: u8 = 0x18;

/// What goes wrong with one block.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ailment {
    /// It arrives damaged.
    Damaged,
    /// It is taken, but the answer is lost.
    Lost,
    /// A byte of noise comes before the answer.
    Noise,
    /// A single CAN, which is noise as well.
    OneCancel,
    /// The receiver wants no more.
    Cancel,
    /// The power goes.
    PowerCut,
}

struct Chip {
    /// Asks for CRC; otherwise for checksums.
    crc: bool,
    /// Refuses the first end of transmission, as receivers of old do.
    doubts_the_end: bool,
    /// The word that makes it receive.
    greeting: Option<&'static [u8]>,
    /// Which block, counted from 1 over all transfers.
    ailment: Option<(usize, Ailment)>,
    blocks: usize,
    sizes: Vec<usize>,
    /// What was received, also of a transfer that did not end.
    flash: Vec<u8>,
    runs_application: bool,
}

impl Chip {
    fn new() -> Self {
        Self {
            crc: true,
            doubts_the_end: false,
            greeting: None,
            ailment: None,
            blocks: 0,
            sizes: Vec::new(),
            flash: Vec::new(),
            runs_application: true,
        }
    }
}

fn run(mut pins: Pins, chip: Arc<Mutex<Chip>>) {
    loop {
        let stop = {
            chip.lock().unwrap().runs_application = !pins.bootloader;
            pins.started();
            if pins.bootloader {
                receive(&mut pins, &chip)
            } else {
                idle(&mut pins)
            }
        };
        if let Err(Stop::End) = stop {
            return;
        }
    }
}

fn idle(pins: &mut Pins) -> Result<(), Stop> {
    loop {
        pins.byte()?;
    }
}

fn receive(pins: &mut Pins, chip: &Mutex<Chip>) -> Result<(), Stop> {
    let (crc, greeting, mut doubts) = {
        let chip = chip.lock().unwrap();
        (chip.crc, chip.greeting, chip.doubts_the_end)
    };
    if let Some(greeting) = greeting {
        pins.send(b"bootloader 1.0, press u to update\r\n");
        for wanted in greeting {
            assert_eq!(pins.byte()?, *wanted);
        }
    }
    let ask = if crc { b'C' } else { NAK };
    let mut last = None;
    pins.send(&[ask]);
    loop {
        let start = match pins.byte_within(Some(100))? {
            Some(start) => start,
            None if last.is_none() => {
                pins.send(&[ask]);
                continue;
            }
            None => continue,
        };
        let size = match start {
            0x01 => 128,
            0x02 => 1024,
            0x04 if doubts => {
                doubts = false;
                pins.send(&[NAK]);
                continue;
            }
            0x04 => {
                pins.send(&[ACK]);
                return idle(pins);
            }
            CAN => return idle(pins),
            other => panic!("a block cannot begin with {other:#04x}"),
        };
        let mut frame = Vec::new();
        for _ in 0..size + if crc { 4 } else { 3 } {
            frame.push(pins.byte()?);
        }
        let (number, complement) = (frame[0], frame[1]);
        let (data, check) = frame[2..].split_at(size);
        let good = number == !complement
            && if crc {
                check == crc_by_long_division(data).to_be_bytes()
            } else {
                check == [data.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte))]
            };
        let mut chip = chip.lock().unwrap();
        chip.blocks += 1;
        let now = chip.blocks;
        let ailment = chip
            .ailment
            .filter(|(at, _)| *at == now)
            .map(|(_, ailment)| ailment);
        match ailment {
            Some(Ailment::Damaged) => {
                pins.send(&[NAK]);
                continue;
            }
            Some(Ailment::Cancel) => {
                pins.send(&[CAN, CAN]);
                continue;
            }
            Some(Ailment::PowerCut) => {
                pins.cut_power();
                continue;
            }
            _ => {}
        }
        assert!(good, "block {number} is damaged");
        if last != Some(number) {
            assert_eq!(
                number,
                last.map_or(1, |last: u8| last.wrapping_add(1)),
                "out of order"
            );
            if last.is_none() {
                chip.flash.clear();
                chip.sizes.clear();
            }
            last = Some(number);
            chip.flash.extend(data);
            chip.sizes.push(size);
        }
        match ailment {
            Some(Ailment::Lost) => {}
            Some(Ailment::Noise) => pins.send(&[0x00, ACK]),
            Some(Ailment::OneCancel) => pins.send(&[CAN, 0x00, ACK]),
            _ => pins.send(&[ACK]),
        }
    }
}

/// The remainder of a division of polynomials, bit by bit, as one learns it.
fn crc_by_long_division(data: &[u8]) -> u16 {
    let bits = data
        .iter()
        .chain(&[0, 0])
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut rest: u32 = 0;
    for bit in bits {
        rest = rest << 1 | u32::from(bit);
        if rest & 0x1_0000 != 0 {
            rest ^= 0x1_1021;
        }
    }
    rest as u16
}

const SETTINGS: &str = "protocol = 'xmodem'\nanswer_ms = 400\n";

fn board() -> Board<Chip> {
    let board = Board::new(Chip::new(), run);
    board.configure(SETTINGS);
    board
}

fn padded(image: &[u8], size: usize) -> Vec<u8> {
    let mut image = image.to_vec();
    image.resize(image.len().next_multiple_of(size), 0x1A);
    image
}

fn flash(board: &Board<Chip>) -> Vec<u8> {
    let chip = board.chip.lock().unwrap();
    assert!(chip.runs_application, "it sits in its bootloader");
    chip.flash.clone()
}

fn old() -> Vec<u8> {
    noise(1500, 3)
}

/// More than 255 small blocks, so that their numbers start over.
fn image() -> Vec<u8> {
    noise(33_500, 4)
}

/// A board on which this module has installed the old image.
fn updated_before() -> Board<Chip> {
    let board = board();
    board.put("firmware.bin", &old());
    board.call("ArtifactInstall").unwrap();
    board.commit();
    board.start_over();
    board.put("firmware.bin", &image());
    board
}

#[test]
fn an_image_is_sent_in_each_way_that_receivers_ask_for() {
    for (crc, block, sizes) in [
        (true, 1024, [1024, 128]),
        (true, 128, [128, 128]),
        (false, 1024, [128, 128]),
    ] {
        let board = board();
        {
            let mut chip = board.chip.lock().unwrap();
            chip.crc = crc;
            chip.doubts_the_end = true;
            chip.greeting = (block == 128).then_some(b"u\r");
        }
        let greeting = if block == 128 {
            "greeting = \"u\\r\""
        } else {
            ""
        };
        board.configure(&format!("{SETTINGS}block = {block}\n{greeting}"));
        board.put("firmware.bin", &image());
        board.call("ArtifactInstall").unwrap();
        assert!(flash(&board) == padded(&image(), 128), "{crc} {block}");
        let chip = board.chip.lock().unwrap();
        assert_eq!(
            [chip.sizes[0], *chip.sizes.last().unwrap()],
            sizes,
            "{crc} {block}"
        );
    }
}

#[test]
fn the_image_of_the_last_update_comes_back() {
    let board = updated_before();
    board.call("ArtifactRollback").unwrap(); // before anything was done
    board.call("ArtifactInstall").unwrap();
    assert!(flash(&board) == padded(&image(), 128));
    board.give_up();
    assert!(flash(&board) == padded(&old(), 128));
    // and that update is the last one again
    board.start_over();
    board.put("firmware.bin", &image());
    board.call("ArtifactInstall").unwrap();
    board.give_up();
    assert!(flash(&board) == padded(&old(), 128));
}

#[test]
fn without_an_earlier_update_there_is_no_rollback() {
    let board = board();
    board.put("firmware.bin", &image());
    board.call("ArtifactInstall").unwrap();
    assert_eq!(board.call("SupportsRollback").unwrap(), "No\n");
    let error = board.call("ArtifactRollback").unwrap_err();
    assert!(error.contains("previous image is not known"), "{error}");
}

#[test]
fn one_fault_in_any_block_is_overcome() {
    let board = board();
    let image = noise(3500, 5);
    let kinds = [
        Ailment::Damaged,
        Ailment::Lost,
        Ailment::Noise,
        Ailment::OneCancel,
    ];
    for kind in kinds {
        // three large blocks and four small ones, the first and the last among those that ail
        for at in [1, 2, 4, 7] {
            board.start_over();
            board.put("firmware.bin", &image);
            {
                let mut chip = board.chip.lock().unwrap();
                chip.blocks = 0;
                chip.ailment = Some((at, kind));
            }
            let done = board.call("ArtifactInstall");
            assert!(done.is_ok(), "{kind:?} {at}: {done:?}");
            assert!(flash(&board) == padded(&image, 128), "{kind:?} {at}");
        }
    }
}

#[test]
fn a_receiver_that_cancels_fails_the_update() {
    let board = updated_before();
    {
        let mut chip = board.chip.lock().unwrap();
        chip.ailment = Some((chip.blocks + 3, Ailment::Cancel));
    }
    let error = board.call("ArtifactInstall").unwrap_err();
    assert!(
        error.contains("cancelled the transfer at the block at byte 2048"),
        "{error}"
    );
    board.give_up();
    assert!(flash(&board) == padded(&old(), 128));
}

#[test]
fn a_block_that_is_never_taken_fails_the_update() {
    let board = updated_before();
    board.configure(&format!("{SETTINGS}tries = 1"));
    {
        let mut chip = board.chip.lock().unwrap();
        chip.ailment = Some((chip.blocks + 2, Ailment::Damaged));
    }
    let error = board.call("ArtifactInstall").unwrap_err();
    assert!(
        error.contains("the block at byte 1024 was not accepted in 1 tries"),
        "{error}"
    );
    board.give_up();
    assert!(flash(&board) == padded(&old(), 128));
}

#[test]
fn nobody_there_is_told() {
    let board = updated_before();
    let config = std::fs::read_to_string(board.path("config.toml")).unwrap();
    std::fs::write(
        board.path("config.toml"),
        config.replace("printf b", "printf a"),
    )
    .unwrap();
    let error = board.call("ArtifactInstall").unwrap_err();
    assert!(error.contains("no receiver asks for an image"), "{error}");
    // nothing was sent, and nothing has to be sent back
    let blocks = board.chip.lock().unwrap().blocks;
    board.give_up();
    assert_eq!(board.chip.lock().unwrap().blocks, blocks);
}

#[test]
fn a_power_cut_in_any_block_is_rolled_back() {
    let board = updated_before();
    let image = noise(3500, 6);
    for at in 1..=7 {
        board.start_over();
        board.put("firmware.bin", &image);
        {
            let mut chip = board.chip.lock().unwrap();
            chip.ailment = Some((chip.blocks + at, Ailment::PowerCut));
        }
        assert!(board.call("ArtifactInstall").is_err(), "{at}");
        board.give_up();
        assert!(flash(&board) == padded(&old(), 128), "{at}");
    }
    // and on the way back
    for at in 1..=2 {
        board.start_over();
        board.put("firmware.bin", &image);
        board.call("ArtifactInstall").unwrap();
        {
            let mut chip = board.chip.lock().unwrap();
            chip.ailment = Some((chip.blocks + at, Ailment::PowerCut));
        }
        assert!(board.call("ArtifactRollback").is_err(), "{at}");
        board.give_up();
        assert!(flash(&board) == padded(&old(), 128), "{at}");
    }
}
