//! Delivery of the payload to a module: through FIFOs as the module asks for them, or into files
//! when it does not ask (agent-behaviour section 5.3).
//!
//! Runs on the installing thread. The module runs as a task of the runtime; `ended` is set when
//! its process has ended, and every wait here looks at it. Dropping [`Running`] kills the module.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambidex_artifact::{PayloadFile, Reader};
use ambidex_platform::fifo::{self, Delivery, FifoWriter};
use ambidex_platform::fs::{self, Context, FsError};
use ambidex_platform::process::{self, Command, Exit, ProcessError};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::ModuleHandler;
use crate::context::{CancelFlag, Progress};
use crate::handler::HandlerError;

/// A module that stops reading usually ends a moment later; its exit tells more than the pipe.
const FAREWELL: Duration = Duration::from_secs(2);

/// Dirty data of a payload stored as a file is flushed in steps of this size.
const FLUSH_BYTES: u64 = 16 * 1024 * 1024;

/// Why the delivery ended early.
#[derive(Debug)]
pub(crate) enum DownloadError {
    Artifact(ambidex_artifact::Error),
    Handler(HandlerError),
    NoSpace {
        needed: u64,
        free: u64,
        place: std::path::PathBuf,
    },
    Cancelled,
}

impl From<ambidex_artifact::Error> for DownloadError {
    fn from(error: ambidex_artifact::Error) -> Self {
        Self::Artifact(error)
    }
}

impl From<HandlerError> for DownloadError {
    fn from(error: HandlerError) -> Self {
        Self::Handler(error)
    }
}

impl From<FsError> for DownloadError {
    fn from(error: FsError) -> Self {
        Self::Handler(error.into())
    }
}

/// The module's `Download` call while it runs.
struct Running<'a> {
    module: &'a ModuleHandler,
    call: &'static str,
    handle: &'a Handle,
    task: Option<JoinHandle<Result<Exit, ProcessError>>>,
    ended: Arc<AtomicBool>,
    cancel: &'a CancelFlag,
}

impl<'a> Running<'a> {
    fn start(
        module: &'a ModuleHandler,
        call: &'static str,
        handle: &'a Handle,
        cancel: &'a CancelFlag,
    ) -> Result<Self, HandlerError> {
        let command: Command = module.command(call)?;
        let ended = Arc::new(AtomicBool::new(false));
        let (flag, logger) = (Arc::clone(&ended), module.clone());
        let task = handle.spawn(async move {
            let exit = process::run(&command, &mut |_, line| logger.log(call, line)).await;
            flag.store(true, Ordering::Release);
            exit
        });
        Ok(Self {
            module,
            call,
            handle,
            task: Some(task),
            ended,
            cancel,
        })
    }

    fn should_stop(&self) -> bool {
        self.ended.load(Ordering::Acquire) || self.cancel.is_cancelled()
    }

    /// Waits for the end of the process, at most `limit` when given.
    fn wait(&mut self, limit: Option<Duration>) -> Result<Option<Exit>, HandlerError> {
        let Some(task) = &mut self.task else {
            return Ok(None);
        };
        let ended = self.handle.block_on(async {
            match limit {
                None => Some(task.await),
                Some(limit) => tokio::time::timeout(limit, task).await.ok(),
            }
        });
        match ended {
            None => Ok(None),
            Some(Ok(exit)) => {
                self.task = None;
                Ok(Some(exit?))
            }
            Some(Err(error)) => {
                self.task = None;
                Err(self
                    .module
                    .protocol(self.call, format!("the call was lost: {error}")))
            }
        }
    }

    /// The error for a module that stopped listening: its exit if that tells, else `problem`.
    fn broken(&mut self, problem: &str) -> DownloadError {
        if self.cancel.is_cancelled() {
            return DownloadError::Cancelled;
        }
        match self.wait(Some(FAREWELL)) {
            Err(error) => error.into(),
            Ok(Some(exit)) => match self.module.judge(self.call, exit) {
                Err(error) => error.into(),
                Ok(()) => self.module.protocol(self.call, problem).into(),
            },
            Ok(None) => self.module.protocol(self.call, problem).into(),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // the task owns the process: once it is gone, so is the group
            let _ = self.handle.block_on(task);
        }
    }
}

/// Streams all payload files to the module, or into `files/` when it ends without asking.
pub(crate) fn download<R: Read>(
    module: &ModuleHandler,
    reader: &mut Reader<R>,
    handle: &Handle,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<(), DownloadError> {
    let with_sizes = handle.block_on(module.wants_sizes())?;
    let tree = module.tree();
    fifo::make(&tree.stream_next(), 0o600)?;
    let call = if with_sizes {
        "DownloadWithFileSizes"
    } else {
        "Download"
    };
    let mut running = Running::start(module, call, handle, cancel)?;
    let mut first = true;
    loop {
        let next = FifoWriter::open(&tree.stream_next(), &|| running.should_stop())?;
        let Some(mut next) = next else {
            if cancel.is_cancelled() {
                return Err(DownloadError::Cancelled);
            }
            if !first {
                return Err(running.broken("it started to read the streams but did not finish"));
            }
            if let Some(exit) = running.wait(None)? {
                module.judge(call, exit)?;
            }
            break;
        };
        first = false;
        let Some(file) = reader.next_file()? else {
            // opened and closed without a byte: no more files
            drop(next);
            if let Some(exit) = running.wait(None)? {
                module.judge(call, exit)?;
            }
            return finish(module);
        };
        let fifo_path = tree.streams().join(file.name());
        fifo::make(&fifo_path, 0o600)?;
        let line = if with_sizes {
            format!("streams/{} {}\n", file.name(), file.size())
        } else {
            format!("streams/{}\n", file.name())
        };
        if next.write_all(line.as_bytes(), &|| running.should_stop())? != Delivery::Done {
            return Err(running.broken("it closed stream-next without reading it"));
        }
        drop(next);
        let Some(stream) = FifoWriter::open(&fifo_path, &|| running.should_stop())? else {
            let problem = format!("it did not open the stream of {}", file.name());
            return Err(running.broken(&problem));
        };
        feed(&mut running, file, stream, progress)?;
        fs::remove_tree(&fifo_path)?;
    }
    store(module, reader, progress, cancel)?;
    finish(module)
}

/// Sends one file through its FIFO.
fn feed<R: Read>(
    running: &mut Running<'_>,
    mut file: PayloadFile<'_, R>,
    mut stream: FifoWriter,
    progress: &dyn Progress,
) -> Result<(), DownloadError> {
    let (name, size) = (file.name().to_owned(), file.size());
    let mut done = 0;
    while let Some(chunk) = file.chunk()? {
        if running.cancel.is_cancelled() {
            return Err(DownloadError::Cancelled);
        }
        match stream.write_all(chunk, &|| running.should_stop())? {
            Delivery::Done => {}
            Delivery::ReaderGone | Delivery::Stopped => {
                let problem = format!("it closed the stream of {name} before its end");
                return Err(running.broken(&problem));
            }
        }
        done += chunk.len() as u64;
        progress.payload(&name, done, size);
    }
    Ok(())
}

/// Stores all files in `files/`, for a module that did not ask for streams.
fn store<R: Read>(
    module: &ModuleHandler,
    reader: &mut Reader<R>,
    progress: &dyn Progress,
    cancel: &CancelFlag,
) -> Result<(), DownloadError> {
    let dir = module.tree().files();
    while let Some(mut file) = reader.next_file()? {
        let (name, size) = (file.name().to_owned(), file.size());
        let free = fs::free_bytes(&dir)?;
        let needed = size.saturating_add(module.context().reserve_bytes);
        if needed > free {
            return Err(DownloadError::NoSpace {
                needed,
                free,
                place: dir,
            });
        }
        let path = dir.join(&name);
        let mut output = fs::create(&path, 0o600)?;
        let (mut done, mut flushed) = (0, 0);
        while let Some(chunk) = file.chunk()? {
            if cancel.is_cancelled() {
                return Err(DownloadError::Cancelled);
            }
            output.write_all(chunk).context("write", &path)?;
            done += chunk.len() as u64;
            if done - flushed >= FLUSH_BYTES {
                flush(&output, &path)?;
                flushed = done;
            }
            progress.payload(&name, done, size);
        }
        flush(&output, &path)?;
    }
    Ok(())
}

fn flush(file: &File, path: &std::path::Path) -> Result<(), FsError> {
    file.sync_data().context("flush", path)
}

/// Removes what only the download needed and makes the tree durable for the calls that follow.
fn finish(module: &ModuleHandler) -> Result<(), DownloadError> {
    let tree = module.tree();
    fs::remove_tree(&tree.stream_next())?;
    fs::sync_tree(tree.root())?;
    Ok(())
}
