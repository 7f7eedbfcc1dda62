//! Bytes a minute, of all sessions together. The decision is pure: time comes in as an argument.
//!
//! The reference keeps an exponential average that it updates every five seconds; we count the last
//! minute in slots of five seconds. Whoever stays below the limit is never refused, and after a minute of
//! quiet everybody begins anew.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::FileError;
use crate::settings::FileLimits;

const SLOT: Duration = Duration::from_secs(5);
const SLOTS: usize = 12;

/// Counts one direction.
#[derive(Debug)]
struct Counter {
    limit: u64,
    key: &'static str,
    began: Instant,
    /// Number of the slot and its bytes, oldest first.
    slots: VecDeque<(u64, u64)>,
}

impl Counter {
    fn new(limit: u64, key: &'static str, now: Instant) -> Counter {
        Counter {
            limit,
            key,
            began: now,
            slots: VecDeque::new(),
        }
    }

    fn take(&mut self, bytes: u64, now: Instant) -> Result<(), FileError> {
        if self.limit == 0 {
            return Ok(());
        }
        let slot = now.duration_since(self.began).as_secs() / SLOT.as_secs();
        while let Some((first, _)) = self.slots.front()
            && first + (SLOTS as u64) <= slot
        {
            self.slots.pop_front();
        }
        let used: u64 = self.slots.iter().map(|(_, bytes)| bytes).sum();
        if used.saturating_add(bytes) > self.limit {
            return Err(FileError(format!(
                "transmitted bytes limit exhausted: this device allows {} bytes a minute ({})",
                self.limit, self.key
            )));
        }
        match self.slots.back_mut() {
            Some((last, count)) if *last == slot => *count += bytes,
            _ => self.slots.push_back((slot, bytes)),
        }
        Ok(())
    }
}

/// Both directions of the device.
#[derive(Debug)]
pub(crate) struct Counters {
    tx: Mutex<Counter>,
    rx: Mutex<Counter>,
}

impl Counters {
    pub(crate) fn new(limits: &FileLimits) -> Counters {
        let now = Instant::now();
        let limit = |bytes: u64| if limits.enabled { bytes } else { 0 };
        Counters {
            tx: Mutex::new(Counter::new(
                limit(limits.tx_bytes_per_minute),
                "max_bytes_tx_per_minute",
                now,
            )),
            rx: Mutex::new(Counter::new(
                limit(limits.rx_bytes_per_minute),
                "max_bytes_rx_per_minute",
                now,
            )),
        }
    }

    /// Bytes that leave the device.
    pub(super) fn send(&self, bytes: usize) -> Result<(), FileError> {
        take(&self.tx, bytes)
    }

    /// Bytes that come to it.
    pub(super) fn receive(&self, bytes: usize) -> Result<(), FileError> {
        take(&self.rx, bytes)
    }
}

fn take(counter: &Mutex<Counter>, bytes: usize) -> Result<(), FileError> {
    // a counter is whole at every moment
    let mut counter = counter.lock().unwrap_or_else(PoisonError::into_inner);
    counter.take(bytes as u64, Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_counted_and_forgotten() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut counter = Counter::new(100, "key", start);
        counter.take(60, at(0)).unwrap();
        counter.take(40, at(30)).unwrap();
        assert!(counter.take(1, at(31)).unwrap_err().0.contains("100 bytes"));
        assert!(counter.take(1, at(59)).is_err());
        counter.take(60, at(60)).unwrap();
        assert!(counter.take(1, at(61)).is_err());
        counter.take(40, at(92)).unwrap();
        let mut free = Counter::new(0, "key", start);
        free.take(u64::MAX, start).unwrap();
        assert!(free.slots.is_empty());
    }
}
