//! Numbers for metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Rows of a kind in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Kind of job.
    pub kind: String,
    /// `ready` or `failed`.
    pub state: String,
    /// How many.
    pub jobs: u64,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Retried,
    Failed,
    LeaseLost,
}

/// What happened to the jobs of a kind in this process since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KindTally {
    /// Running at the moment.
    pub running: u64,
    /// Finished.
    pub done: u64,
    /// Attempts that are made again.
    pub retried: u64,
    /// Given up.
    pub failed: u64,
    /// Executions cut off because another process took the job over.
    pub leases_lost: u64,
}

/// Counters by kind.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, KindTally>>);

impl Tally {
    /// All kinds that this process has run.
    pub fn kinds(&self) -> Vec<(&'static str, KindTally)> {
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.iter().map(|(kind, tally)| (*kind, *tally)).collect()
    }

    /// Counts a running job until the returned guard is dropped.
    pub(crate) fn running(&self, kind: &'static str) -> Running<'_> {
        self.change(kind, |tally| tally.running += 1);
        Running { tally: self, kind }
    }

    pub(crate) fn ended(&self, kind: &'static str, end: End) {
        self.change(kind, |tally| match end {
            End::Done => tally.done += 1,
            End::Retried => tally.retried += 1,
            End::Failed => tally.failed += 1,
            End::LeaseLost => tally.leases_lost += 1,
        });
    }

    fn change(&self, kind: &'static str, change: impl FnOnce(&mut KindTally)) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(kinds.entry(kind).or_default());
    }
}

pub(crate) struct Running<'a> {
    tally: &'a Tally,
    kind: &'static str,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.tally.change(self.kind, |tally| {
            tally.running = tally.running.saturating_sub(1)
        });
    }
}
