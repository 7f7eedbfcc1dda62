//! Takes an input apart: a few decisions at its start, the content behind them.

/// The rest of an input. Where it is used up, zeros and nothing follow.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let count = N.min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        let mut array = [0; N];
        array[..count].copy_from_slice(taken);
        array
    }

    /// A piece whose length stands before it in two bytes, at most what is left.
    pub fn piece(&mut self) -> &'a [u8] {
        let wanted = usize::from(u16::from_le_bytes(self.array()));
        let (piece, rest) = self.0.split_at(wanted.min(self.0.len()));
        self.0 = rest;
        piece
    }

    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// What [`Input::piece`] takes apart.
pub fn piece(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("pieces of seeds are short");
    [&length.to_le_bytes()[..], bytes].concat()
}
