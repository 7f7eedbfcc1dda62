//! Recordings as the reference's playback socket sends them: the messages of the session, with pauses.

use std::time::Duration;

use ambidex_kit::Upgraded;
use ambidex_wire::session::{Message, PROTO_SHELL, shell};
use futures_util::StreamExt as _;

use super::recording::{Event, Player, What};
use super::socket::{self, End, Frame, Socket};
use crate::Inner;

/// Output of one message.
const OUTPUT_BYTES: usize = 1024;
/// Pauses shorter than this are not worth a message.
const PAUSE_MS_MIN: u64 = 20;
/// Longest pause of one message: what old players read the number as.
const PAUSE_MS_MAX: u64 = 65_535;

/// Sends a recording. The client sleeps where it is told to; `pace` is a pause after every message.
pub(crate) async fn serve<S: Socket>(
    inner: &Inner,
    mut player: Player,
    session: &str,
    first_size: (u16, u16),
    pace: Duration,
    mut socket: S,
    held: Upgraded,
) {
    let end = {
        let (mut sink, mut stream) = (&mut socket).split();
        let send = async {
            let mut at_ms = 0;
            let mut batch = vec![Event {
                at_ms: 0,
                what: What::Resize(first_size.0, first_size.1),
            }];
            loop {
                for event in &batch {
                    for message in messages(session, event, &mut at_ms) {
                        let frame = Frame::Binary(message.encode().into());
                        let sent = socket::send(&mut sink, frame, inner.settings.write_stall).await;
                        if let Err(end) = sent {
                            return end;
                        }
                        if !pace.is_zero() {
                            tokio::time::sleep(pace).await;
                        }
                    }
                }
                batch = match player.next().await {
                    Ok(events) if events.is_empty() => return End::done("the recording ends here"),
                    Ok(events) => events,
                    Err(error) => {
                        tracing::error!(%error, "a recording cannot be read");
                        return End::internal();
                    }
                };
            }
        };
        let watch = async {
            loop {
                match stream.next().await {
                    Some(Ok(Frame::Close(..)) | Err(_)) | None => return End::Peer,
                    Some(Ok(_)) => {}
                }
            }
        };
        tokio::select! {
            end = send => end,
            end = watch => end,
            () = held.stopping() => End::away("the server is stopping"),
        }
    };
    socket::close(&mut socket, &end).await;
}

/// An event as messages; `at_ms` is the time up to which has been told.
fn messages(session: &str, event: &Event, at_ms: &mut u64) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut pause = event.at_ms.saturating_sub(*at_ms);
    if pause >= PAUSE_MS_MIN {
        *at_ms = event.at_ms;
        while pause > 0 {
            let part = pause.min(PAUSE_MS_MAX);
            pause -= part;
            messages.push(
                Message::new(PROTO_SHELL, shell::DELAY, session).prop(shell::DELAY_VALUE, part),
            );
        }
    }
    match &event.what {
        What::Output(output) => messages.extend(
            output
                .chunks(OUTPUT_BYTES)
                .map(|piece| shell::message(shell::SHELL, session, shell::STATUS_NORMAL, piece)),
        ),
        What::Resize(columns, rows) => messages.push(
            Message::new(PROTO_SHELL, shell::RESIZE, session)
                .prop(shell::WIDTH, *columns)
                .prop(shell::HEIGHT, *rows),
        ),
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_and_pieces() {
        let mut at_ms = 0;
        let mut kinds = |at, what| -> Vec<String> {
            messages("s", &Event { at_ms: at, what }, &mut at_ms)
                .into_iter()
                .map(|message| match message.props.int(shell::DELAY_VALUE) {
                    Some(pause) => format!("delay {pause}"),
                    None => format!("{} {}", message.typ, message.body.len()),
                })
                .collect()
        };
        assert_eq!(kinds(5, What::Output(vec![0; 3])), ["shell 3"]);
        assert_eq!(
            kinds(2500, What::Output(vec![0; 1025])),
            ["delay 2500", "shell 1024", "shell 1"]
        );
        assert_eq!(
            kinds(72_500, What::Resize(1, 2)),
            ["delay 65535", "delay 4465", "resize 0"]
        );
    }
}
