//! Damages inputs, the same way in every run.

/// A small generator (xorshift*): the same numbers for the same seed, on every machine.
#[derive(Debug, Clone)]
pub struct Mutator(u64);

impl Mutator {
    /// # Panics
    /// With 0, from which nothing else follows.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        assert_ne!(seed, 0, "a seed is not 0");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `limit`; 0 when that is 0.
    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    /// One of the seeds with one to four kinds of damage.
    ///
    /// # Panics
    /// Without seeds.
    pub fn damaged(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        assert!(!seeds.is_empty(), "there are no seeds");
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            self.damage(&mut bytes, seeds);
        }
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        /// Numbers at which arithmetic turns over.
        const EDGES: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];
        let length = bytes.len();
        let at = self.below(length);
        match self.below(8) {
            0 | 1 if length > 0 => bytes[at] ^= 1 << self.below(8),
            2 if length > 0 => bytes[at] = EDGES[self.below(EDGES.len())],
            3 if length > 0 => {
                let end = length.min(at + 1 + self.below(8));
                let edge = EDGES[self.below(EDGES.len())];
                bytes[at..end].fill(edge);
            }
            4 => bytes.truncate(at),
            5 => {
                let byte = self.next().to_le_bytes()[0];
                bytes.insert(at, byte);
            }
            6 if length > 0 => {
                let end = length.min(at + 1 + self.below(64));
                if self.below(2) == 0 {
                    bytes.drain(at..end);
                } else {
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(end..end, copy);
                }
            }
            _ => {
                // the beginning of one and the end of another
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}
