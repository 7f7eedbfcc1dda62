//! Standard input and output as queues of bytes, each with a thread of its own: they may block, and the
//! session goes on meanwhile.

use std::io::{self, Read as _, Write as _};
use std::thread;

use tokio::sync::{mpsc, oneshot};

/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;
/// Pieces that wait in either direction.
const QUEUE_PIECES: usize = 16;

/// Reads standard input; the queue ends with it. The thread ends with the process.
pub fn input() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(QUEUE_PIECES);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let piece = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(buffer[..count].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Writes standard output.
pub struct Output {
    queue: mpsc::Sender<Vec<u8>>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    pub fn start() -> Self {
        let (queue, mut receiver) = mpsc::channel::<Vec<u8>>(QUEUE_PIECES);
        let (report, done) = oneshot::channel();
        thread::spawn(move || {
            let mut output = io::stdout().lock();
            let mut write = || {
                while let Some(piece) = receiver.blocking_recv() {
                    output.write_all(&piece)?;
                    if receiver.is_empty() {
                        output.flush()?;
                    }
                }
                output.flush()
            };
            // Nobody waits for it any more after a signal.
            drop(report.send(write()));
        });
        Self { queue, done }
    }

    /// `false` when standard output takes nothing any more.
    pub async fn write(&self, piece: Vec<u8>) -> bool {
        self.queue.send(piece).await.is_ok()
    }

    /// Waits until all is written. A reader that went away is no error.
    pub async fn finish(self) -> io::Result<()> {
        drop(self.queue);
        match self.done.await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Ok(outcome) => outcome,
            Err(_) => Ok(()),
        }
    }
}
