//! The part of MessagePack that session messages use, read strictly and written compactly.
//!
//! Owns the mapping between bytes and [`Value`]. Lengths claimed by the input are believed only as far as
//! input follows, and nesting ends at [`DEPTH_MAX`], so hostile bytes cost no more memory than they bring.

use super::SessionError;

/// Deepest nesting of lists and maps that is read. The deepest message in use has two.
pub const DEPTH_MAX: usize = 16;

/// Any MessagePack value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// nil
    Nil,
    /// Boolean.
    Bool(bool),
    /// Any integer up to the largest of 64 signed bits, whatever its width on the wire.
    Int(i64),
    /// Integers beyond that.
    UInt(u64),
    /// Either width.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A map. Keys that are no text are kept out: nothing in the protocol has them.
    Map(Vec<(String, Value)>),
    /// An extension; -1 is a timestamp.
    Ext(i8, Vec<u8>),
}

impl Value {
    /// Reads one value; bytes after it are ignored, as the reference does.
    ///
    /// # Errors
    /// [`SessionError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Value, SessionError> {
        Reader::new(bytes).value(DEPTH_MAX)
    }

    /// The value as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_value(&mut out, self);
        out
    }

    /// The entry of a map; the last one when the key is repeated.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(entries) => entries.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// An integer of any width.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// An integer of at least 0.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Int(n) => u64::try_from(*n).ok(),
            Value::UInt(n) => Some(*n),
            _ => None,
        }
    }

    /// Text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(on) => Some(*on),
            _ => None,
        }
    }
}

macro_rules! integers {
    ($($type:ty),*) => {
        $(impl From<$type> for Value {
            fn from(n: $type) -> Value {
                Value::Int(i64::from(n))
            }
        })*
    };
}
integers!(u8, u16, u32, i32, i64);

impl From<u64> for Value {
    fn from(n: u64) -> Value {
        i64::try_from(n).map_or(Value::UInt(n), Value::Int)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(on: bool) -> Value {
        Value::Bool(on)
    }
}

/// A cursor over input.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// What the marker of a value says, with its payload where it is short.
enum Marker {
    Scalar(Value),
    Text(usize),
    Bytes(usize),
    List(usize),
    Map(usize),
    Ext(usize),
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], SessionError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(SessionError::Malformed("it ends in the middle of a value"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A big-endian number of `N` bytes.
    fn number<const N: usize>(&mut self) -> Result<u64, SessionError> {
        let taken = self.take(N)?;
        Ok(taken.iter().fold(0, |n, b| (n << 8) | u64::from(*b)))
    }

    fn signed<const N: usize>(&mut self) -> Result<Value, SessionError> {
        let bits = 64 - 8 * N as u32;
        let raw = self.number::<N>()?;
        Ok(Value::Int((raw << bits).cast_signed() >> bits))
    }

    fn length<const N: usize>(&mut self) -> Result<usize, SessionError> {
        usize::try_from(self.number::<N>()?).map_err(|_| SessionError::Malformed("a length"))
    }

    fn marker(&mut self) -> Result<Marker, SessionError> {
        let [first] = *self.take(1)? else {
            return Err(SessionError::Malformed("it ends before a value"));
        };
        let low = |mask: u8| usize::from(first & mask);
        Ok(match first {
            0x00..=0x7f => Marker::Scalar(Value::Int(i64::from(first))),
            0x80..=0x8f => Marker::Map(low(0x0f)),
            0x90..=0x9f => Marker::List(low(0x0f)),
            0xa0..=0xbf => Marker::Text(low(0x1f)),
            0xc0 => Marker::Scalar(Value::Nil),
            0xc1 => return Err(SessionError::Malformed("a reserved marker")),
            0xc2 => Marker::Scalar(Value::Bool(false)),
            0xc3 => Marker::Scalar(Value::Bool(true)),
            0xc4 => Marker::Bytes(self.length::<1>()?),
            0xc5 => Marker::Bytes(self.length::<2>()?),
            0xc6 => Marker::Bytes(self.length::<4>()?),
            0xc7 => Marker::Ext(self.length::<1>()?),
            0xc8 => Marker::Ext(self.length::<2>()?),
            0xc9 => Marker::Ext(self.length::<4>()?),
            0xca => {
                let bits = self.number::<4>()? as u32;
                Marker::Scalar(Value::Float(f64::from(f32::from_bits(bits))))
            }
            0xcb => Marker::Scalar(Value::Float(f64::from_bits(self.number::<8>()?))),
            0xcc => Marker::Scalar(self.number::<1>()?.into()),
            0xcd => Marker::Scalar(self.number::<2>()?.into()),
            0xce => Marker::Scalar(self.number::<4>()?.into()),
            0xcf => Marker::Scalar(self.number::<8>()?.into()),
            0xd0 => Marker::Scalar(self.signed::<1>()?),
            0xd1 => Marker::Scalar(self.signed::<2>()?),
            0xd2 => Marker::Scalar(self.signed::<4>()?),
            0xd3 => Marker::Scalar(self.signed::<8>()?),
            0xd4..=0xd8 => Marker::Ext(1 << (first - 0xd4)),
            0xd9 => Marker::Text(self.length::<1>()?),
            0xda => Marker::Text(self.length::<2>()?),
            0xdb => Marker::Text(self.length::<4>()?),
            0xdc => Marker::List(self.length::<2>()?),
            0xdd => Marker::List(self.length::<4>()?),
            0xde => Marker::Map(self.length::<2>()?),
            0xdf => Marker::Map(self.length::<4>()?),
            0xe0..=0xff => Marker::Scalar(Value::Int(i64::from(first.cast_signed()))),
        })
    }

    fn utf8(&mut self, length: usize) -> Result<&'a str, SessionError> {
        std::str::from_utf8(self.take(length)?)
            .map_err(|_| SessionError::Malformed("text that is not UTF-8"))
    }

    pub(super) fn value(&mut self, depth: usize) -> Result<Value, SessionError> {
        Ok(match self.marker()? {
            Marker::Scalar(value) => value,
            Marker::Text(length) => Value::Text(self.utf8(length)?.to_owned()),
            Marker::Bytes(length) => Value::Bytes(self.take(length)?.to_vec()),
            Marker::Ext(length) => {
                let kind = self.take(1)?[0].cast_signed();
                Value::Ext(kind, self.take(length)?.to_vec())
            }
            Marker::List(length) => {
                let depth = deeper(depth)?;
                let mut list = Vec::with_capacity(self.believe(length)?);
                for _ in 0..length {
                    list.push(self.value(depth)?);
                }
                Value::List(list)
            }
            Marker::Map(length) => {
                let depth = deeper(depth)?;
                let mut map = Vec::with_capacity(self.believe(length)?.min(16));
                for _ in 0..length {
                    let key = self.value(depth)?;
                    let value = self.value(depth)?;
                    if let Value::Text(key) = key {
                        map.push((key, value));
                    }
                }
                Value::Map(map)
            }
        })
    }

    /// Every element takes a byte or more.
    fn believe(&self, length: usize) -> Result<usize, SessionError> {
        if length > self.rest.len() {
            return Err(SessionError::Malformed("it ends in the middle of a list"));
        }
        Ok(length.min(64))
    }

    /// Passes over one value.
    pub(super) fn skip(&mut self, depth: usize) -> Result<(), SessionError> {
        match self.marker()? {
            Marker::Scalar(_) => {}
            Marker::Text(length) | Marker::Bytes(length) => {
                self.take(length)?;
            }
            Marker::Ext(length) => {
                self.take(1)?;
                self.take(length)?;
            }
            Marker::List(length) => {
                let depth = deeper(depth)?;
                self.believe(length)?;
                for _ in 0..length {
                    self.skip(depth)?;
                }
            }
            Marker::Map(length) => {
                let depth = deeper(depth)?;
                self.believe(length)?;
                for _ in 0..length {
                    self.skip(depth)?;
                    self.skip(depth)?;
                }
            }
        }
        Ok(())
    }

    /// The number of entries of a map, `None` for nil.
    pub(super) fn map(&mut self) -> Result<Option<usize>, SessionError> {
        match self.marker()? {
            Marker::Map(length) => {
                self.believe(length)?;
                Ok(Some(length))
            }
            Marker::Scalar(Value::Nil) => Ok(None),
            _ => Err(SessionError::Malformed("no map where one must be")),
        }
    }

    /// A key of a map; empty for keys of other kinds, which are passed over.
    pub(super) fn key(&mut self) -> Result<&'a str, SessionError> {
        let before = self.clone();
        match self.marker()? {
            Marker::Text(length) => self.utf8(length),
            _ => {
                *self = before;
                self.skip(DEPTH_MAX)?;
                Ok("")
            }
        }
    }

    /// Text, empty for nil.
    pub(super) fn text(&mut self) -> Result<&'a str, SessionError> {
        match self.marker()? {
            Marker::Text(length) => self.utf8(length),
            Marker::Scalar(Value::Nil) => Ok(""),
            _ => Err(SessionError::Malformed("no text where it must be")),
        }
    }

    /// Bytes, also written as text; empty for nil and for an empty map (web interfaces end a shell so).
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], SessionError> {
        match self.marker()? {
            Marker::Bytes(length) | Marker::Text(length) => self.take(length),
            Marker::Scalar(Value::Nil) | Marker::Map(0) => Ok(&[]),
            _ => Err(SessionError::Malformed("a body that is not bytes")),
        }
    }
}

fn deeper(depth: usize) -> Result<usize, SessionError> {
    depth
        .checked_sub(1)
        .ok_or(SessionError::Malformed("it is nested too deeply"))
}

/// Writes the marker of something that has a length: the shortest of its forms.
fn write_length(out: &mut Vec<u8>, length: usize, fix: Option<(u8, usize)>, wide: [Option<u8>; 3]) {
    if let Some((base, limit)) = fix
        && length < limit
    {
        out.push(base | length as u8);
        return;
    }
    let bytes = (length as u64).to_be_bytes();
    match wide {
        [Some(marker), _, _] if length <= 0xff => out.extend([marker, bytes[7]]),
        [_, Some(marker), _] if length <= 0xffff => {
            out.push(marker);
            out.extend(&bytes[6..]);
        }
        // Lists and texts of 4 GiB do not exist in memory that is limited to one message.
        [_, _, marker] => {
            out.push(marker.unwrap_or(0xc1));
            out.extend(&bytes[4..]);
        }
    }
}

pub(super) fn write_map(out: &mut Vec<u8>, entries: usize) {
    write_length(
        out,
        entries,
        Some((0x80, 16)),
        [None, Some(0xde), Some(0xdf)],
    );
}

pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    let wide = [Some(0xd9), Some(0xda), Some(0xdb)];
    write_length(out, text.len(), Some((0xa0, 32)), wide);
    out.extend(text.as_bytes());
}

pub(super) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let wide = [Some(0xc4), Some(0xc5), Some(0xc6)];
    write_length(out, bytes.len(), None, wide);
    out.extend(bytes);
}

/// The 16-bit form whatever the number: how the reference writes protocol numbers.
pub(super) fn write_u16(out: &mut Vec<u8>, n: u16) {
    out.push(0xcd);
    out.extend(n.to_be_bytes());
}

/// The 64-bit form whatever the number: what the reference demands of offsets.
pub(super) fn write_i64(out: &mut Vec<u8>, n: i64) {
    out.push(0xd3);
    out.extend(n.to_be_bytes());
}

fn write_int(out: &mut Vec<u8>, n: i64) {
    let bytes = n.to_be_bytes();
    match n {
        -32..=127 => out.push(bytes[7]),
        128..=0xff => out.extend([0xcc, bytes[7]]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend(&bytes[4..]);
        }
        -128..=-33 => out.extend([0xd0, bytes[7]]),
        -0x8000..=-129 => {
            out.push(0xd1);
            out.extend(&bytes[6..]);
        }
        -0x8000_0000..=-0x8001 => {
            out.push(0xd2);
            out.extend(&bytes[4..]);
        }
        _ => write_i64(out, n),
    }
}

pub(super) fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Nil => out.push(0xc0),
        Value::Bool(on) => out.push(if *on { 0xc3 } else { 0xc2 }),
        Value::Int(n) => write_int(out, *n),
        Value::UInt(n) => {
            out.push(0xcf);
            out.extend(n.to_be_bytes());
        }
        Value::Float(n) => {
            out.push(0xcb);
            out.extend(n.to_bits().to_be_bytes());
        }
        Value::Text(text) => write_text(out, text),
        Value::Bytes(bytes) => write_bytes(out, bytes),
        Value::List(list) => {
            write_length(
                out,
                list.len(),
                Some((0x90, 16)),
                [None, Some(0xdc), Some(0xdd)],
            );
            for value in list {
                write_value(out, value);
            }
        }
        Value::Map(entries) => {
            write_map(out, entries.len());
            for (key, value) in entries {
                write_text(out, key);
                write_value(out, value);
            }
        }
        Value::Ext(kind, bytes) => {
            match bytes.len() {
                1 => out.push(0xd4),
                2 => out.push(0xd5),
                4 => out.push(0xd6),
                8 => out.push(0xd7),
                16 => out.push(0xd8),
                length => write_length(out, length, None, [Some(0xc7), Some(0xc8), Some(0xc9)]),
            }
            out.push(kind.cast_unsigned());
            out.extend(bytes);
        }
    }
}
