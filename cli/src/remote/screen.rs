//! What the device's programs switched on in our terminal, so that it can be switched off when the user
//! leaves in the middle of an editor: another screen, a hidden cursor, reports of the mouse.

use std::collections::BTreeMap;

/// Longest sequence that is looked at: a few numbers.
const SEQUENCE_BYTES_MAX: usize = 64;
/// Modes that are on in a terminal at rest; all others are off. 25 is the cursor.
const ON_AT_REST: [u16; 2] = [7, 25];

/// Watches output for `ESC [ ? numbers h` and `l`, wherever it is cut.
#[derive(Debug, Default)]
pub struct Screen {
    modes: BTreeMap<u16, bool>,
    sequence: Vec<u8>,
}

impl Screen {
    /// Looks at output that goes to the terminal.
    pub fn watch(&mut self, output: &[u8]) {
        for &byte in output {
            match (self.sequence.len(), byte) {
                (_, 0x1b) => {
                    self.sequence.clear();
                    self.sequence.push(byte);
                }
                (1, b'[') | (2, b'?') => self.sequence.push(byte),
                (3.., b'0'..=b'9' | b';') if self.sequence.len() < SEQUENCE_BYTES_MAX => {
                    self.sequence.push(byte);
                }
                (3.., b'h' | b'l') => {
                    let numbers = std::mem::take(&mut self.sequence);
                    for number in numbers[3..].split(|byte| *byte == b';') {
                        let number = std::str::from_utf8(number).ok();
                        if let Some(mode) = number.and_then(|text| text.parse().ok()) {
                            self.modes.insert(mode, byte == b'h');
                        }
                    }
                }
                (0, _) => {}
                _ => self.sequence.clear(),
            }
        }
    }

    /// What puts the terminal to rest. Plain characters again in any case.
    pub fn reset(&self) -> String {
        let mut reset = String::new();
        for (&mode, &on) in &self.modes {
            let rest = ON_AT_REST.contains(&mode);
            if on != rest {
                let end = if rest { 'h' } else { 'l' };
                reset.push_str(&format!("\x1b[?{mode}{end}"));
            }
        }
        reset.push_str("\x1b[0m");
        reset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_put_back() {
        for (pieces, reset) in [
            (vec!["plain \x1b[1mtext\x1b[0m"], ""),
            (vec!["\x1b[?1049h vi"], "\x1b[?1049l"),
            (vec!["\x1b[?1049h vi \x1b[?1049l"], ""),
            (vec!["\x1b[?25l"], "\x1b[?25h"),
            (vec!["\x1b[?1000;1006h"], "\x1b[?1000l\x1b[?1006l"),
            (vec!["\x1b", "[", "?20", "04", "h"], "\x1b[?2004l"),
            (vec!["\x1b[?20\x1b[?25l"], "\x1b[?25h"),
            (vec!["\x1b[?1x49h", "\x1b[?99999999h", "\x1b[?h"], ""),
        ] {
            let mut screen = Screen::default();
            for piece in &pieces {
                screen.watch(piece.as_bytes());
            }
            assert_eq!(screen.reset(), format!("{reset}\x1b[0m"), "{pieces:?}");
        }
    }
}
