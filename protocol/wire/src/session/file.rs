//! File transfer ([`super::PROTO_FILE`]).

use super::fields::{Body, Fields};
use super::{Message, PROTO_FILE, SessionError, Value};

/// Asks for the content of a file: [`Path`].
pub const GET: &str = "get_file";
/// Announces a file: [`PutFile`].
pub const PUT: &str = "put_file";
/// Tells how far the receiver is, in the property `offset`.
pub const ACK: &str = "ack";
/// Asks for what is known of a file: [`Path`].
pub const STAT: &str = "stat";
/// The answer: [`FileInfo`].
pub const INFO: &str = "file_info";
/// A piece of the content at the property `offset`; without body: the end.
pub const CHUNK: &str = "file_chunk";
/// [`Failure`].
pub const ERROR: &str = "error";

/// Bytes of content in one chunk that every peer takes.
pub const CHUNK_BYTES: usize = 4096;
/// Chunks that may be under way without an acknowledgement.
pub const WINDOW_CHUNKS: usize = 20;
/// An acknowledgement is due after this many chunks.
pub const ACK_CHUNKS: usize = 10;

/// Property of `get_file`: the largest piece of content, in bytes, that its sender takes in one
/// [`CHUNK`]. Without it, pieces have at most [`CHUNK_BYTES`]. The window stays [`WINDOW_CHUNKS`] pieces.
/// The reference knows nothing of it and passes it over.
pub const CHUNK_BYTES_WANTED: &str = "chunk_bytes";

/// Property of `get_file`: how many bytes of the content the receiver has already, 0 for none. With more
/// than 0, [`SHA256`] is that of these bytes. A device that understands it answers with an [`ACK`] first,
/// whose `offset` tells where the content begins: there, or at 0 where the file has other bytes; and the
/// chunk that ends the content has [`SHA256`], that of the whole content. Others begin with a [`CHUNK`], at 0.
pub const RESUME_FROM: &str = "resume_from";
/// A SHA-256 as 64 hexadecimal digits: see [`RESUME_FROM`] and [`RESUME_KEY`].
pub const SHA256: &str = "sha256";
/// Property of `put_file` (which then tells the size): 64 hexadecimal digits that are the same for the same
/// content. A device that understands it has [`SHA256`] in its first [`ACK`]: that of the bytes which it has
/// kept of an earlier try, as many as the `offset` tells. The content goes on from there, and the chunk that
/// ends it has [`SHA256`], that of the whole content. A sender that finds other bytes answers with an
/// [`ERROR`], which has the device forget them, and asks again.
pub const RESUME_KEY: &str = "resume_key";
/// Property of `put_file`, beside [`RESUME_KEY`]: for how many seconds the device keeps what it has received
/// when the connection is lost, at most [`KEEP_SECONDS_MAX`].
pub const KEEP_SECONDS: &str = "keep_seconds";
/// A day.
pub const KEEP_SECONDS_MAX: u64 = 86_400;

/// Bits of `mode` that tell that something is no plain file, as the reference writes them.
pub const MODE_KIND: u32 = 0x8f28_0000;
/// The bit of `mode` for a directory.
pub const MODE_DIRECTORY: u32 = 0x8000_0000;
/// Permission bits of `mode`.
pub const MODE_PERMISSIONS: u32 = 0o777;
const MODE_SYMLINK: u32 = 0x0800_0000;
const MODE_DEVICE: u32 = 0x0400_0000;
const MODE_PIPE: u32 = 0x0200_0000;
const MODE_SOCKET: u32 = 0x0100_0000;
const MODE_CHARACTERS: u32 = 0x0020_0000;
const MODE_IRREGULAR: u32 = 0x0008_0000;
const MODE_SETUID: u32 = 0x0080_0000;
const MODE_SETGID: u32 = 0x0040_0000;
const MODE_STICKY: u32 = 0x0010_0000;

/// The permissions of a `mode`, set-id and sticky bits included, as Unix numbers them.
#[must_use]
pub fn unix_permissions(mode: u32) -> u32 {
    let bit = |theirs: u32, ours: u32| if mode & theirs == 0 { 0 } else { ours };
    (mode & MODE_PERMISSIONS)
        | bit(MODE_SETUID, 0o4000)
        | bit(MODE_SETGID, 0o2000)
        | bit(MODE_STICKY, 0o1000)
}

/// The `mode` of what Unix numbers `st_mode`.
#[must_use]
pub fn mode_of(st_mode: u32) -> u32 {
    let kind = match st_mode & 0o170_000 {
        0o100_000 => 0,
        0o040_000 => MODE_DIRECTORY,
        0o120_000 => MODE_SYMLINK,
        0o060_000 => MODE_DEVICE,
        0o020_000 => MODE_DEVICE | MODE_CHARACTERS,
        0o010_000 => MODE_PIPE,
        0o140_000 => MODE_SOCKET,
        _ => MODE_IRREGULAR,
    };
    let bit = |ours: u32, theirs: u32| if st_mode & ours == 0 { 0 } else { theirs };
    kind | (st_mode & MODE_PERMISSIONS)
        | bit(0o4000, MODE_SETUID)
        | bit(0o2000, MODE_SETGID)
        | bit(0o1000, MODE_STICKY)
}

const NANOS_OF_SECOND: u32 = 1_000_000_000;

/// A moment, written as a MessagePack timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// Since 1970.
    pub seconds: i64,
    /// Below one second.
    pub nanos: u32,
}

impl Timestamp {
    fn read(value: &Value) -> Option<Timestamp> {
        let Value::Ext(-1, bytes) = value else {
            return None;
        };
        let time = match bytes.len() {
            4 => Timestamp {
                seconds: i64::from(u32::from_be_bytes(bytes.as_slice().try_into().ok()?)),
                nanos: 0,
            },
            8 => {
                let packed = u64::from_be_bytes(bytes.as_slice().try_into().ok()?);
                Timestamp {
                    seconds: i64::try_from(packed & 0x3_ffff_ffff).ok()?,
                    nanos: u32::try_from(packed >> 34).ok()?,
                }
            }
            12 => {
                let (nanos, seconds) = bytes.split_at(4);
                Timestamp {
                    seconds: i64::from_be_bytes(seconds.try_into().ok()?),
                    nanos: u32::from_be_bytes(nanos.try_into().ok()?),
                }
            }
            _ => return None,
        };
        (time.nanos < NANOS_OF_SECOND).then_some(time)
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Value {
        let bytes = match u64::try_from(time.seconds) {
            Ok(seconds) if time.nanos == 0 && seconds <= u64::from(u32::MAX) => {
                seconds.to_be_bytes()[4..].to_vec()
            }
            Ok(seconds) if seconds < 1 << 34 => {
                let packed = u64::from(time.nanos) << 34 | seconds;
                packed.to_be_bytes().to_vec()
            }
            _ => [
                time.nanos.to_be_bytes().as_slice(),
                time.seconds.to_be_bytes().as_slice(),
            ]
            .concat(),
        };
        Value::Ext(-1, bytes)
    }
}

/// Body of `get_file` and `stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// On the device.
    pub path: String,
}

impl Path {
    /// As a message of type [`GET`] or [`STAT`].
    #[must_use]
    pub fn message(&self, typ: &str, sid: &str) -> Message {
        let body = Body::default().with("path", self.path.as_str());
        Message::new(PROTO_FILE, typ, sid).body(body.encode())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn decode(body: &[u8]) -> Result<Path, SessionError> {
        let path = Fields::read(body)?.text("path")?;
        Ok(Path {
            path: path.ok_or(SessionError::Field("path"))?,
        })
    }
}

/// Body of `file_info`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileInfo {
    /// As asked for.
    pub path: String,
    /// Bytes.
    pub size: Option<u64>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Kind and permissions: see [`MODE_KIND`].
    pub mode: Option<u32>,
    /// Last change.
    pub modtime: Option<Timestamp>,
}

impl FileInfo {
    /// As a message.
    #[must_use]
    pub fn message(&self, sid: &str) -> Message {
        let body = Body::default()
            .with("path", self.path.as_str())
            .maybe("size", self.size)
            .maybe("uid", self.uid)
            .maybe("gid", self.gid)
            .maybe("mode", self.mode)
            .maybe("modtime", self.modtime);
        Message::new(PROTO_FILE, INFO, sid).body(body.encode())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn decode(body: &[u8]) -> Result<FileInfo, SessionError> {
        let fields = Fields::read(body)?;
        Ok(FileInfo {
            path: fields.text("path")?.unwrap_or_default(),
            size: fields.number("size")?,
            uid: fields.number("uid")?,
            gid: fields.number("gid")?,
            mode: fields.number("mode")?,
            modtime: fields.optional("modtime", Timestamp::read)?,
        })
    }

    /// Whether it is a plain file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode.is_none_or(|mode| mode & MODE_KIND == 0)
    }
}

/// Body of `put_file`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutFile {
    /// The name on the sender's side; names the file when `path` is a directory.
    pub src_path: Option<String>,
    /// On the device.
    pub path: String,
    /// Bytes, when known.
    pub size: Option<u64>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Permissions.
    pub mode: Option<u32>,
    /// Last change.
    pub modtime: Option<Timestamp>,
}

impl PutFile {
    /// As a message.
    #[must_use]
    pub fn message(&self, sid: &str) -> Message {
        let body = Body::default()
            .maybe("src_path", self.src_path.as_deref())
            .with("path", self.path.as_str())
            .maybe("size", self.size)
            .maybe("uid", self.uid)
            .maybe("gid", self.gid)
            .maybe("mode", self.mode)
            .maybe("modtime", self.modtime);
        Message::new(PROTO_FILE, PUT, sid).body(body.encode())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn decode(body: &[u8]) -> Result<PutFile, SessionError> {
        let fields = Fields::read(body)?;
        Ok(PutFile {
            src_path: fields.text("src_path")?,
            path: fields.text("path")?.ok_or(SessionError::Field("path"))?,
            size: fields.number("size")?,
            uid: fields.number("uid")?,
            gid: fields.number("gid")?,
            mode: fields.number("mode")?,
            modtime: fields.optional("modtime", Timestamp::read)?,
        })
    }
}

/// Body of `error`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, for people.
    pub err: String,
    /// Type of the message that failed.
    pub msgtype: Option<String>,
    /// Its id.
    pub msgid: Option<String>,
}

impl Failure {
    /// As a message.
    #[must_use]
    pub fn message(&self, sid: &str) -> Message {
        let body = Body::default()
            .with("err", self.err.as_str())
            .maybe("msgtype", self.msgtype.as_deref())
            .maybe("msgid", self.msgid.as_deref());
        Message::new(PROTO_FILE, ERROR, sid).body(body.encode())
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn decode(body: &[u8]) -> Result<Failure, SessionError> {
        let fields = Fields::read(body)?;
        Ok(Failure {
            err: fields.text("err")?.unwrap_or_default(),
            msgtype: fields.text("msgtype")?,
            msgid: fields.text("msgid")?,
        })
    }
}

/// A piece of content.
#[must_use]
pub fn chunk(sid: &str, offset: u64, content: &[u8]) -> Message {
    Message::new(PROTO_FILE, CHUNK, sid)
        .prop("offset", offset)
        .body(content)
}

/// An acknowledgement.
#[must_use]
pub fn ack(sid: &str, offset: u64) -> Message {
    Message::new(PROTO_FILE, ACK, sid).prop("offset", offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_no_more_than_its_nanoseconds() {
        let read = |nanos: u32| {
            let wide = [&nanos.to_be_bytes()[..], &1_i64.to_be_bytes()].concat();
            Timestamp::read(&Value::Ext(-1, wide))
        };
        let last = read(NANOS_OF_SECOND - 1);
        assert_eq!(last.map(|time| Timestamp::read(&time.into())), Some(last));
        for nanos in [NANOS_OF_SECOND, 1 << 30, u32::MAX] {
            assert_eq!(read(nanos), None);
        }
        let packed = (1_u64 << 30) - 1;
        let narrow = (packed << 34 | 1).to_be_bytes().to_vec();
        assert_eq!(Timestamp::read(&Value::Ext(-1, narrow)), None);
    }

    #[test]
    fn modes_are_the_reference_ones_and_come_back() {
        for (st_mode, mode) in [
            (0o100_644, 0o644),
            (0o041_777, 0x8010_01ff),
            (0o104_755, 0x0080_01ed),
            (0o120_777, 0x0800_01ff),
            (0o020_600, 0x0420_0180),
            (0o060_600, 0x0400_0180),
            (0o010_600, 0x0200_0180),
            (0o140_600, 0x0100_0180),
        ] {
            assert_eq!(mode_of(st_mode), mode, "{st_mode:o}");
            assert_eq!(unix_permissions(mode), st_mode & 0o7777, "{st_mode:o}");
            assert_eq!(mode & MODE_KIND == 0, st_mode & 0o170_000 == 0o100_000);
        }
    }
}
