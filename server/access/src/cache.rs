//! Which tokens had a good signature: a bounded set of fingerprints.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Fingerprints a generation holds in each shard. Two generations of 16 shards remember 131 072 to
/// 262 144 tokens in at most about 20 MB; a fleet beyond that pays one signature check (about 30 µs) for
/// tokens that were pushed out.
const GENERATION_MAX: usize = 8192;
const SHARDS: usize = 16;

type Fingerprint = [u8; 32];

#[derive(Default)]
struct Shard {
    young: HashSet<Fingerprint>,
    old: HashSet<Fingerprint>,
}

/// When the young generation is full it becomes the old one, and the old one is forgotten. A token found
/// in the old generation moves to the young one, so tokens in use stay.
#[derive(Default)]
pub(crate) struct SeenTokens([Mutex<Shard>; SHARDS]);

impl SeenTokens {
    pub(crate) fn contains(&self, fingerprint: &[u8]) -> bool {
        let Ok(key) = Fingerprint::try_from(fingerprint) else {
            return false;
        };
        let mut shard = self.shard(&key);
        if shard.young.contains(&key) {
            return true;
        }
        if shard.old.contains(&key) {
            shard.add(key);
            return true;
        }
        false
    }

    pub(crate) fn insert(&self, fingerprint: &[u8]) {
        if let Ok(key) = Fingerprint::try_from(fingerprint) {
            self.shard(&key).add(key);
        }
    }

    fn shard(&self, key: &Fingerprint) -> std::sync::MutexGuard<'_, Shard> {
        self.0[usize::from(key[0]) % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn add(&mut self, key: Fingerprint) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_used() {
        let seen = SeenTokens::default();
        let key = |n: u32| {
            let mut key = [0; 32];
            key[1..5].copy_from_slice(&n.to_le_bytes());
            key
        };
        let used = key(0);
        seen.insert(&used);
        for n in 1..GENERATION_MAX as u32 * 4 {
            seen.insert(&key(n));
            assert!(seen.contains(&used), "after {n}");
        }
        assert!(!seen.contains(&key(1)), "long unused");
        let held = seen.shard(&used);
        assert!(held.young.len() <= GENERATION_MAX && held.old.len() <= GENERATION_MAX);
    }
}
