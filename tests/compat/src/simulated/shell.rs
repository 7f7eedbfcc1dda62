//! A shell of this machine on a terminal of its own.

use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, mpsc as blocking};

use ambidex_wire::session::{Message, shell as wire};
use anyhow::Result;
use tokio::process::Child;

use super::{Link, Manner, Out};
use crate::pty::{Pty, in_terminal};

const SIZE: (u16, u16) = (80, 40);

/// Dropping it kills the shell.
pub(super) struct Shell {
    keys: blocking::Sender<Vec<u8>>,
    terminal: File,
    _child: Child,
}

impl Shell {
    pub(super) fn start(link: &Arc<Link>, new: &Message, out: Out) -> Result<Self> {
        let (mut pty, terminal) = Pty::open(wire::size(&new.props).unwrap_or(SIZE))?;
        let child = in_terminal("/bin/sh", &terminal)?
            .env("TERM", "xterm-256color")
            .env("PS1", "$ ")
            .env_remove("ENV")
            .spawn()?;
        drop(terminal);
        let sid = new.sid.clone();
        let handle = pty.keyboard()?;
        let mut keyboard = pty.keyboard()?;
        let (keys, typed) = blocking::channel::<Vec<u8>>();
        std::thread::spawn(move || {
            while let Ok(keys) = typed.recv() {
                if keyboard.write_all(&keys).is_err() {
                    break;
                }
            }
        });
        let (bytes, end) = match link.manner {
            Manner::Reference => {
                let text = "read /dev/ptmx: input/output error";
                (wire::OUTPUT_BYTES, (wire::STATUS_ERROR, text))
            }
            Manner::Ours => (4096, (wire::STATUS_NORMAL, "the shell ended")),
        };
        tokio::spawn(async move {
            let begun = wire::message(wire::NEW, &sid, wire::STATUS_NORMAL, b"Shell started");
            let mut going = out.send(begun).await.is_ok();
            while going && let Some(output) = pty.next().await {
                for piece in output.chunks(bytes) {
                    let piece = wire::message(wire::SHELL, &sid, wire::STATUS_NORMAL, piece);
                    going = out.send(piece).await.is_ok();
                }
            }
            let (status, text) = end;
            let stop = wire::message(wire::STOP, &sid, status, text.as_bytes());
            let _ = out.send(stop).await;
        });
        Ok(Self {
            keys,
            terminal: handle,
            _child: child,
        })
    }

    pub(super) fn take(&mut self, message: Message) -> Result<()> {
        match message.typ.as_str() {
            wire::SHELL => {
                // The shell may have ended a moment ago.
                let _ = self.keys.send(message.body);
            }
            wire::RESIZE => {
                if let Some((columns, rows)) = wire::size(&message.props) {
                    let size = rustix::termios::Winsize {
                        ws_col: columns,
                        ws_row: rows,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    rustix::termios::tcsetwinsize(&self.terminal, size)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
