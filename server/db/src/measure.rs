//! What the engine measures of itself: a few atomic additions a commit.

use std::sync::atomic::{AtomicU64, Ordering};

/// Values counted into buckets.
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than there are bounds: the last one takes what is above all of them.
    buckets: [AtomicU64; BUCKETS_MAX],
    sum: AtomicU64,
}

/// Bounds of one histogram, and the bucket above them.
const BUCKETS_MAX: usize = 18;

/// Bounds for durations in microseconds: 100 µs to 30 s.
pub const MICROSECONDS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000, 30_000_000,
];
/// Bounds for numbers of jobs under one commit.
pub(crate) const JOBS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// A histogram at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Upper bounds, each belonging to its bucket.
    pub bounds: &'static [u64],
    /// How many values fell into each bucket; one more than there are bounds.
    pub counts: Vec<u64>,
    /// Sum of all values.
    pub sum: u64,
}

impl Histogram {
    /// `bounds` ascend; at most 17 of them.
    pub const fn new(bounds: &'static [u64]) -> Histogram {
        assert!(bounds.len() < BUCKETS_MAX);
        Histogram {
            bounds,
            buckets: [const { AtomicU64::new(0) }; BUCKETS_MAX],
            sum: AtomicU64::new(0),
        }
    }

    /// Counts one value.
    pub fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            counts: self.buckets[..=self.bounds.len()]
                .iter()
                .map(|bucket| bucket.load(Ordering::Relaxed))
                .collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// What the database did since it was opened, and what waits at this moment.
#[derive(Debug, Clone, Default)]
pub struct DbStats {
    /// Duration of commits, in microseconds: mostly the disk's.
    pub commit_us: HistogramSnapshot,
    /// Jobs under one commit.
    pub jobs_per_commit: HistogramSnapshot,
    /// Groups that were lost: the disk refused.
    pub groups_failed: u64,
    /// Writes that wait for the writer.
    pub writes_waiting: u64,
    /// Reads that wait for a reader.
    pub reads_waiting: u64,
}

/// Where the writer counts.
pub(crate) struct Measures {
    pub(crate) commit_us: Histogram,
    pub(crate) jobs_per_commit: Histogram,
    pub(crate) groups_failed: AtomicU64,
}

impl Default for Measures {
    fn default() -> Measures {
        Measures {
            commit_us: Histogram::new(MICROSECONDS),
            jobs_per_commit: Histogram::new(JOBS),
            groups_failed: AtomicU64::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, 1_000] {
            histogram.record(value);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.counts, [2, 2, 2]);
        assert_eq!(snapshot.sum, 1_062);
    }
}
