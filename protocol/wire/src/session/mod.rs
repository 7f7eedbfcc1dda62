//! Messages of the device's websocket: remote terminal, file transfer, port forward, client commands.
//!
//! One binary websocket message holds one MessagePack map `{hdr: {proto, typ, sid, props}, body}`.
//! Owns: the codec ([`Message`], [`MessageRef`]), the numbers and names of the protocols, and the bodies
//! that are structured ([`control`], [`file`], [`forward`]). Does not own: sessions, sockets, time.
//!
//! Source: the captured traffic of the reference's daemons and server. Two of their rules are built in:
//! the property `offset` is always written as a 64-bit integer (they refuse any shorter form), and
//! protocol numbers as 16-bit ones. Reading takes every width.

pub mod control;
mod fields;
pub mod file;
pub mod forward;
mod message;
mod msgpack;
pub mod shell;

pub use message::{Message, MessageRef, Props};
pub use msgpack::{DEPTH_MAX, Value};

/// Shell sessions.
pub const PROTO_SHELL: u16 = 1;
/// File transfer.
pub const PROTO_FILE: u16 = 2;
/// Port forward.
pub const PROTO_FORWARD: u16 = 3;
/// Commands to the update client.
pub const PROTO_CLIENT: u16 = 4;
/// Opening and closing of sessions.
pub const PROTO_CONTROL: u16 = 0xffff;

/// Version of the session protocol.
pub const VERSION: u32 = 1;
/// The websocket sub-protocol; optional on both sides.
pub const SUBPROTOCOL: &str = "protomsg/msgpack";

/// Largest message that the reference's device reads, in bytes; it drops the connection beyond.
pub const DEVICE_MESSAGE_BYTES_MAX: usize = 8192;
/// Header with which a device announces that it reads larger messages than
/// [`DEVICE_MESSAGE_BYTES_MAX`], and with which the server tells users how large messages to the device
/// may be. A decimal number of bytes.
pub const MESSAGE_BYTES_HEADER: &str = "x-ambidex-message-bytes";
/// Largest number that counts in [`MESSAGE_BYTES_HEADER`]: one message must fit into one message of the
/// bus between servers, whose usual limit is 1 MiB.
pub const MESSAGE_BYTES_MAX: usize = 512 << 10;

/// Longest `typ`, in bytes.
pub const TYPE_BYTES_MAX: usize = 64;
/// Longest `sid`, in bytes. Servers make UUIDs.
pub const SID_BYTES_MAX: usize = 128;
/// Most properties of one message.
pub const PROPS_MAX: usize = 64;

/// Commands of [`PROTO_CLIENT`], as `typ`.
pub mod client {
    /// Ask the server for an update now.
    pub const CHECK_UPDATE: &str = "check-update";
    /// Send the inventory now.
    pub const SEND_INVENTORY: &str = "send-inventory";
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The bytes do not have the form.
    #[error("malformed session message: {0}")]
    Malformed(&'static str),
    /// Something is longer than allowed.
    #[error("session message with {0} above its limit")]
    TooLarge(&'static str),
    /// A body that lacks a field, or has one of another kind.
    #[error("session message without a usable {0}")]
    Field(&'static str),
}
