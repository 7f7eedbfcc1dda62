//! Shell sessions ([`super::PROTO_SHELL`]). Bodies are the bytes of the terminal, or a text.

use super::{Message, PROTO_SHELL, Props};

/// Starts a shell, and the answer to it.
pub const NEW: &str = "new";
/// Input and output.
pub const SHELL: &str = "shell";
/// Ends a shell, and tells that it ended.
pub const STOP: &str = "stop";
/// Another size of the terminal.
pub const RESIZE: &str = "resize";
/// Asks for a sign of life.
pub const PING: &str = "ping";
/// The answer.
pub const PONG: &str = "pong";
/// In a replay: a pause of [`DELAY_VALUE`] milliseconds.
pub const DELAY: &str = "delay";

/// Property: 1 normal, 2 error, 3 control.
pub const STATUS: &str = "status";
/// Property: the user of the session, set by the server.
pub const USER_ID: &str = "user_id";
/// Property: columns.
pub const WIDTH: &str = "terminal_width";
/// Property: rows.
pub const HEIGHT: &str = "terminal_height";
/// Property: seconds until the device gives up waiting for `pong`.
pub const TIMEOUT: &str = "timeout";
/// Property of [`DELAY`].
pub const DELAY_VALUE: &str = "delay_value";

/// Value of [`STATUS`].
pub const STATUS_NORMAL: i64 = 1;
/// Value of [`STATUS`].
pub const STATUS_ERROR: i64 = 2;
/// Value of [`STATUS`].
pub const STATUS_CONTROL: i64 = 3;

/// Bytes of output in one message of the reference's device.
pub const OUTPUT_BYTES: usize = 255;

/// A message with a status.
#[must_use]
pub fn message(typ: &str, sid: &str, status: i64, body: &[u8]) -> Message {
    Message::new(PROTO_SHELL, typ, sid)
        .prop(STATUS, status)
        .body(body)
}

/// Columns and rows of a `new` or `resize`; both must be given and above 0.
#[must_use]
pub fn size(props: &Props) -> Option<(u16, u16)> {
    let side = |name: &str| {
        props
            .int(name)
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| *n > 0)
    };
    Some((side(WIDTH)?, side(HEIGHT)?))
}
