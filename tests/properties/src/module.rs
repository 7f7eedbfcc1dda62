//! What an update module says: the answers to the agent's questions, and the lines of its output.
//!
//! - An answer is one of the words of the protocol, or refused with a reason; never both, never anything else.
//! - Lines are the same however the pipe cuts them, and none is longer than the limit.

use ambidex_install::{Reboot, answer};
use ambidex_platform::process::{LINE_BYTES_MAX, LineSplitter};

use crate::allocation;
use crate::input::Input;

/// Of one line as it came, as text, and with its notice; and what a question's answer is quoted in.
const MEMORY_MAX: usize = 256 << 10;

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let step = usize::from(input.byte()) + 1;
    let said = input.rest();
    answers(said);
    lines(said, step);
}

fn answers(said: &[u8]) {
    let (yes_or_no, reboot) = allocation::at_most(MEMORY_MAX, || {
        (answer::yes_or_no(said), answer::reboot(said))
    });
    let word = said.strip_suffix(b"\n").unwrap_or(said);
    match word {
        b"Yes" => assert_eq!((yes_or_no, reboot), (Ok(true), Ok(Reboot::Custom))),
        b"No" | b"" => assert_eq!((yes_or_no, reboot), (Ok(false), Ok(Reboot::No))),
        other => {
            assert!(yes_or_no.is_err_and(|reason| !reason.is_empty()));
            match reboot {
                Ok(Reboot::Automatic) => assert_eq!(other, b"Automatic"),
                Ok(_) => panic!("{other:?} is an answer"),
                Err(reason) => assert!(!reason.is_empty() && other != b"Automatic"),
            }
        }
    }
}

fn lines(said: &[u8], step: usize) {
    let whole = allocation::at_most(MEMORY_MAX + 100 * said.len(), || {
        split(said.chunks(usize::MAX))
    });
    assert_eq!(whole, split(said.chunks(step)), "cut into pieces of {step}");
    let expected = said.split(|byte| *byte == b'\n').count() - usize::from(said.ends_with(b"\n"));
    assert_eq!(whole.len(), if said.is_empty() { 0 } else { expected });
    for line in whole {
        assert!(!line.contains('\n'));
        // what is no text takes three bytes for each of its own
        assert!(
            line.len() <= 3 * LINE_BYTES_MAX + 64,
            "{} bytes",
            line.len()
        );
    }
}

fn split<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut splitter = LineSplitter::default();
    for piece in pieces {
        splitter.push(piece, &mut |line| lines.push(line.to_owned()));
    }
    splitter.finish(&mut |line| lines.push(line.to_owned()));
    lines
}

pub fn seeds() -> Vec<Vec<u8>> {
    let long = [b"x".repeat(LINE_BYTES_MAX - 2).as_slice(), b"ab\r\ncd\n"].concat();
    let said: [&[u8]; 12] = [
        b"",
        b"Yes",
        b"Yes\n",
        b"No\n",
        b"Automatic\n",
        b"Yes\nNo\n",
        b" Yes\n",
        b"Automatic\r\n",
        b"\n\n",
        b"\xff\xfe\n",
        b"installing\r\n50 %\r100 %\n\ndone",
        &long,
    ];
    said.iter().map(|said| [&[6][..], said].concat()).collect()
}
