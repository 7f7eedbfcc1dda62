//! One connected user: the socket on one side, a session with a device on the other.
//!
//! Two loops in one task, as for a device. The session's id and the user's id in every message are ours,
//! whatever the client wrote. The server looks into the messages for what it must know: shells are
//! recorded and limited, and the audit log learns of shells, port forwards and files.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ambidex_access::UserIdentity;
use ambidex_kit::Upgraded;
use ambidex_wire::management::auditlogs::Event as AuditEvent;
use ambidex_wire::session::{
    MessageRef, PROTO_FILE, PROTO_FORWARD, PROTO_SHELL, Props, control, file, forward, shell,
};
use bytes::Bytes;
use futures_util::{Sink, Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use super::recorder::Recorder;
use super::recording::What;
use super::session::{Event, Inbound, Outbound};
use super::socket::{self, End, Frame, PING, Socket, SocketError};
use super::{admission, audit};
use crate::store::session::Session;
use crate::{DeviceconnectError, Inner};

/// A terminal of unknown size: what the reference's device makes of it.
const SIZE: (u16, u16) = (80, 40);

struct Side<'a> {
    inner: &'a Arc<Inner>,
    user: &'a UserIdentity,
    device: &'a str,
    sid: String,
    outbound: Outbound,
    recorder: Mutex<Option<Arc<Recorder>>>,
    /// A shell runs, as far as we know.
    shell: AtomicBool,
    forwards: AtomicBool,
    output_bytes: AtomicU64,
    started: Instant,
    heard_ms: AtomicU64,
}

/// Serves a user until one of the two goes.
pub(crate) async fn serve<S: Socket>(
    inner: &Arc<Inner>,
    user: &UserIdentity,
    device: &str,
    (outbound, inbound): (Outbound, Inbound),
    mut socket: S,
    held: Upgraded,
) {
    let _counted = inner.users.count();
    let side = Side {
        inner,
        user,
        device,
        sid: outbound.sid().to_string(),
        outbound,
        recorder: Mutex::default(),
        shell: AtomicBool::new(false),
        forwards: AtomicBool::new(false),
        output_bytes: AtomicU64::new(0),
        started: Instant::now(),
        heard_ms: AtomicU64::new(0),
    };
    let end = {
        let (sink, stream) = (&mut socket).split();
        tokio::select! {
            end = side.read(stream) => end,
            end = side.write(sink, inbound) => end,
            () = held.stopping() => End::away("the server is stopping"),
        }
    };
    tracing::debug!(session = %side.sid, ?end, "user disconnected");
    side.finish().await;
    // The device learns of it now, not after the goodbye.
    drop(side);
    socket::close(&mut socket, &end).await;
}

impl Side<'_> {
    fn heard(&self) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    fn last_heard(&self) -> Instant {
        self.started + std::time::Duration::from_millis(self.heard_ms.load(Ordering::Relaxed))
    }

    fn recorder(&self) -> MutexGuard<'_, Option<Arc<Recorder>>> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read<R>(&self, mut stream: R) -> End
    where
        R: Stream<Item = Result<Frame, SocketError>> + Unpin,
    {
        loop {
            let frame = match stream.next().await {
                None => return End::Peer,
                Some(Err(error)) => return error.into(),
                Some(Ok(frame)) => frame,
            };
            self.heard();
            match frame {
                Frame::Binary(bytes) => {
                    if let Err(end) = self.take_from_user(&bytes).await {
                        return end;
                    }
                }
                Frame::Text => return End::unsupported(),
                Frame::Ping(_) | Frame::Pong => {}
                Frame::Close(..) => return End::Peer,
            }
        }
    }

    async fn take_from_user(&self, bytes: &Bytes) -> Result<(), End> {
        let message = MessageRef::decode(bytes).map_err(|error| End::malformed(&error))?;
        let mut props = message.props().map_err(|error| End::malformed(&error))?;
        props.set(shell::USER_ID, self.user.user_id.as_str());
        let looked = match message.proto {
            PROTO_SHELL => Box::pin(self.shell_message(&message, &props)).await,
            PROTO_FORWARD if message.typ == forward::NEW => Box::pin(self.forward(&message)).await,
            PROTO_FILE => Box::pin(self.file(&message)).await,
            _ => Ok(()),
        };
        if let Err(error) = looked {
            tracing::error!(%error, "a session cannot be recorded");
            return Err(End::internal());
        }
        self.pass_on(message, &props).await
    }

    /// Sends a message on, in pieces where that is possible and needed.
    async fn pass_on(&self, message: MessageRef<'_>, props: &Props) -> Result<(), End> {
        let limit = self.outbound.message_bytes_max;
        let encoded = message.encode_as(&self.sid, props);
        if encoded.len() <= limit {
            return self.send(&encoded).await;
        }
        // What the envelope takes, with the longest form of the body's length.
        let room = limit.saturating_sub(encoded.len() - message.body.len() + 4);
        if message.proto != PROTO_SHELL || message.typ != shell::SHELL || room == 0 {
            let reason = format!("message too large: the device reads at most {limit} bytes");
            return Err(End::Close(1009, reason));
        }
        for piece in message.body.chunks(room) {
            let piece = message.with_body(piece);
            self.send(&piece.encode_as(&self.sid, props)).await?;
        }
        Ok(())
    }

    async fn send(&self, bytes: &[u8]) -> Result<(), End> {
        self.outbound
            .send(bytes)
            .await
            .map_err(|reason| End::away(&reason))
    }

    async fn shell_message(
        &self,
        message: &MessageRef<'_>,
        props: &Props,
    ) -> Result<(), DeviceconnectError> {
        match message.typ {
            shell::NEW => {
                self.shell.store(true, Ordering::Relaxed);
                let begun = self.recorder().is_some();
                if !begun {
                    self.begin(shell::size(props).unwrap_or(SIZE)).await?;
                }
            }
            shell::RESIZE => {
                let recorder = self.recorder().clone();
                if let (Some(recorder), Some((columns, rows))) = (recorder, shell::size(props)) {
                    recorder.record(What::Resize(columns, rows)).await;
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn begin(&self, (columns, rows): (u16, u16)) -> Result<(), DeviceconnectError> {
        let session = Session {
            session_id: self.sid.clone(),
            device_id: self.device.to_owned(),
            user_id: self.user.user_id.clone(),
            started_ms: self.inner.clock.now_ms(),
            ended_ms: None,
            width: u32::from(columns),
            height: u32::from(rows),
            output_bytes: 0,
        };
        let recorder = Recorder::start(self.inner, &self.user.tenant, session).await?;
        *self.recorder() = Some(Arc::new(recorder));
        Ok(())
    }

    async fn forward(&self, message: &MessageRef<'_>) -> Result<(), DeviceconnectError> {
        if self.forwards.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let mut event = self.audit_event(audit::OPEN_PORTFORWARD);
        if let Ok(to) = forward::Connect::decode(message.body) {
            event = event.change(format!(
                "{} {}:{}",
                to.protocol, to.remote_host, to.remote_port
            ));
        }
        Ok(audit::record(self.inner, self.user.tenant.as_str(), &event).await?)
    }

    async fn file(&self, message: &MessageRef<'_>) -> Result<(), DeviceconnectError> {
        let (action, path) = match message.typ {
            file::GET => (
                audit::DOWNLOAD_FILE,
                file::Path::decode(message.body).map(|body| body.path),
            ),
            file::PUT => (
                audit::UPLOAD_FILE,
                file::PutFile::decode(message.body).map(|body| body.path),
            ),
            _ => return Ok(()),
        };
        // A body that is wrong is the device's to refuse.
        let Ok(path) = path else { return Ok(()) };
        let event = audit::file(
            action,
            &self.user.user_id,
            self.device,
            &self.sid,
            &path,
            self.inner.clock.now_ms(),
        );
        Ok(audit::record(self.inner, self.user.tenant.as_str(), &event).await?)
    }

    fn audit_event(&self, action: &str) -> AuditEvent {
        let now_ms = self.inner.clock.now_ms();
        audit::terminal(action, &self.user.user_id, self.device, &self.sid, now_ms)
    }

    async fn write<T>(&self, mut sink: T, mut inbound: Inbound) -> End
    where
        T: Sink<Frame, Error = SocketError> + Unpin,
    {
        let settings = &self.inner.settings;
        let stall = settings.write_stall;
        let mut next_ping = self.started + settings.ping;
        let mut next_check = self.started + settings.recheck;
        let last = self.started + settings.session_max;
        loop {
            let deadline = next_ping
                .min(next_check)
                .min(last)
                .min(self.last_heard() + settings.silence);
            tokio::select! {
                event = inbound.next() => match event {
                    Event::Data(bytes) => {
                        if let Err(end) = self.take_from_device(&bytes).await {
                            return end;
                        }
                        let size = bytes.len();
                        if let Err(end) =
                            socket::send(&mut sink, Frame::Binary(bytes), stall).await
                        {
                            return end;
                        }
                        inbound.consumed(size);
                    }
                    Event::Gone(reason) => {
                        self.tell_gone(&mut sink, &reason).await;
                        return End::away(&reason);
                    }
                },
                () = sleep_until(deadline) => {
                    let now = Instant::now();
                    if now >= self.last_heard() + settings.silence {
                        return End::policy("no sign of life");
                    }
                    if now >= last {
                        self.outbound.farewell("session time limit exceeded");
                        return End::policy("session time limit exceeded");
                    }
                    if now >= next_ping {
                        next_ping = now + settings.ping;
                        if let Err(end) = socket::send(&mut sink, Frame::Ping(PING), stall).await {
                            return end;
                        }
                    }
                    if now >= next_check {
                        next_check = now + settings.recheck;
                        if let Err(end) = Box::pin(self.check()).await {
                            return end;
                        }
                    }
                }
            }
        }
    }

    /// Whether the user may still be here.
    async fn check(&self) -> Result<(), End> {
        let counts = self.inner.neighbours.user_counts(self.user).await;
        match counts {
            Ok(true) => {}
            Ok(false) => return Err(End::policy("the login has ended")),
            Err(error) => tracing::warn!(%error, "a user's token cannot be checked"),
        }
        match admission::granted(self.inner, self.user, self.device).await {
            Err(DeviceconnectError::Forbidden(reason)) => Err(End::policy(reason)),
            _ => Ok(()),
        }
    }

    /// Looks at what the device sends.
    async fn take_from_device(&self, bytes: &[u8]) -> Result<(), End> {
        let Ok(message) = MessageRef::decode(bytes) else {
            return Ok(());
        };
        if message.proto != PROTO_SHELL {
            return Ok(());
        }
        match message.typ {
            shell::STOP => self.shell.store(false, Ordering::Relaxed),
            shell::SHELL => {
                let recorder = self.recorder().clone();
                if let Some(recorder) = recorder {
                    recorder.record(What::Output(message.body.to_vec())).await;
                }
                let more = message.body.len() as u64;
                let total = self.output_bytes.fetch_add(more, Ordering::Relaxed) + more;
                if total > self.inner.settings.output_bytes_max {
                    self.outbound.farewell("session byte limit exceeded");
                    return Err(End::policy("session byte limit exhausted"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// In both of the forms that clients understand.
    async fn tell_gone<T>(&self, sink: &mut T, reason: &str)
    where
        T: Sink<Frame, Error = SocketError> + Unpin,
    {
        let mut messages = Vec::new();
        if self.shell.load(Ordering::Relaxed) {
            let body = reason.as_bytes();
            messages.push(shell::message(
                shell::STOP,
                &self.sid,
                shell::STATUS_ERROR,
                body,
            ));
        }
        messages.push(control::Failure::closing(reason).message(&self.sid));
        for message in messages {
            let frame = Frame::Binary(message.encode().into());
            // The close frame says it once more.
            let _ = socket::send(sink, frame, self.inner.settings.write_stall).await;
        }
    }

    async fn finish(&self) {
        let recorder = self.recorder().take().and_then(Arc::into_inner);
        if let Some(recorder) = recorder {
            recorder.finish().await;
        }
        if self.forwards.load(Ordering::Relaxed) {
            let event = self.audit_event(audit::CLOSE_PORTFORWARD);
            let recorded = audit::record(self.inner, self.user.tenant.as_str(), &event).await;
            if let Err(error) = recorded {
                tracing::error!(%error, "the end of a port forward was not recorded");
            }
        }
    }
}
