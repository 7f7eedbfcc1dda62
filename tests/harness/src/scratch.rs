//! A folder for one test, kept when the test fails.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const REMOVE_TRIES: u32 = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(50);

/// A temporary folder. Removed on drop unless the thread is panicking, [`Scratch::keep`] was called or
/// `AMBIDEX_KEEP=1` is set.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Makes a new empty folder whose name starts with `name`.
    pub fn new(name: &str) -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix(&format!("ambidex-{name}-"))
            .tempdir()
            .with_context(|| format!("making a temporary folder for {name}"))?
            .keep();
        let keep = std::env::var("AMBIDEX_KEEP").is_ok_and(|value| value == "1");
        Ok(Self { path, keep })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the folder stay.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep || std::thread::panicking() {
            eprintln!("kept for inspection: {}", self.path.display());
            return;
        }
        // a process that was killed a moment ago may still be writing its last file
        for _ in 0..REMOVE_TRIES {
            if std::fs::remove_dir_all(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(REMOVE_PAUSE);
        }
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

/// Runs one test with a scratch folder and a tokio runtime, prints how long it took, and on failure
/// panics with the whole chain of causes while the folder is still there.
pub fn flow<F, Fut>(name: &str, body: F)
where
    F: FnOnce(std::sync::Arc<Scratch>) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap_or_else(|error| panic!("no tokio runtime: {error}"));
    let scratch = Scratch::new(name)
        .map(std::sync::Arc::new)
        .unwrap_or_else(|error| panic!("{error:#}"));
    let result = runtime.block_on(body(std::sync::Arc::clone(&scratch)));
    let seconds = started.elapsed().as_secs_f64();
    match result {
        Ok(()) if crate::skip::take_skipped() => {}
        Ok(()) => eprintln!("{name}: passed after {seconds:.1} s"),
        // the panic makes the drop of `scratch` keep the folder
        Err(error) => panic!("{name}: failed after {seconds:.1} s: {error:#}"),
    }
}
