//! The terminal that we run in: its size, and the mode in which every key goes to the device.
//!
//! The mode is restored when [`Raw`] is dropped, which signals bring about too (see `interrupt`), and
//! before a panic prints its message.

use std::io;
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Columns and rows, if there is a terminal that has any.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout())
        .or_else(|_| tcgetwinsize(stdin()))
        .ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// While this lives, the terminal passes every key on as it is.
pub struct Raw(());

impl Raw {
    /// Changes the terminal of standard input, which must be one.
    pub fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let previous = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                previous(info);
            }));
        });
        let mut mode = tcgetattr(stdin())?;
        *saved() = Some(mode.clone());
        let raw = Self(());
        mode.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &mode)?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn saved() -> std::sync::MutexGuard<'static, Option<Termios>> {
    SAVED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn restore() {
    if let Some(mode) = saved().take() {
        // A terminal that has gone away needs no mode.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &mode);
    }
}
