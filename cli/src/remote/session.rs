//! `ambidex session`

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambidex_wire::management::deviceconnect as wire;
use ambidex_wire::session::{Message, PROTO_SHELL, shell};
use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::device;
use super::screen::Screen;
use super::socket::{Ended, Session};
use super::tty;
use crate::OutputForm;
use crate::exit::Failure;
use crate::fleet::api::{Api, decode};
use crate::fleet::connection::Connection;
use crate::fleet::table;
use crate::output_file::OutputFile;

const SESSIONS: [&str; 3] = ["v1", "deviceconnect", "sessions"];
/// Largest recording that is played. Servers end a session after 8 MiB.
const RECORDING_BYTES_MAX: usize = 256 << 20;

#[derive(Debug, Args)]
#[command(after_help = "\
The server records the output and the sizes of every terminal session, and keeps them for 30 days.
What was typed is not recorded.

Examples:
    ambidex session list --device pump-7
    ambidex session play 5f8b1c0e-0000-4000-8000-000000000001 --speed 4 --max-idle 2
    ambidex session export 5f8b1c0e-0000-4000-8000-000000000001 -o night.cast
    asciinema play night.cast")]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the sessions that were recorded, newest first.
    List {
        /// Only those of this device: its id, a value of its identity, or the beginning of either.
        #[arg(long, value_name = "DEVICE")]
        device: Option<String>,
        /// Only those of the user with this id.
        #[arg(long, value_name = "ID")]
        user: Option<String>,
    },
    /// Play a session in this terminal, as it happened.
    Play {
        /// Id of the session.
        id: String,
        /// Twice as fast is 2.
        #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = positive)]
        speed: f64,
        /// Pauses longer than this are cut short.
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        max_idle: Option<Duration>,
    },
    /// Save a session as asciicast v2, which players of terminal recordings read.
    Export {
        /// Id of the session.
        id: String,
        /// Where to; `-` is standard output.
        #[arg(
            short = 'o',
            long = "output-file",
            value_name = "FILE",
            default_value = "-"
        )]
        file: PathBuf,
    },
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && (0.01..=1000.0).contains(&factor) => Ok(factor),
        _ => Err("a number from 0.01 to 1000".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds, at most 86400".to_owned()),
    }
}

impl Arguments {
    pub async fn run(self, form: OutputForm) -> Result<(), Failure> {
        let api = self.connection.api()?;
        match self.verb {
            Verb::List { device, user } => list(&api, device, user, form).await,
            Verb::Play {
                id,
                speed,
                max_idle,
            } => {
                let pace = Pace { speed, max_idle };
                play(&api, &id, pace).await
            }
            Verb::Export { id, file } => export(&api, &id, &file).await,
        }
    }
}

async fn list(
    api: &Api,
    device: Option<String>,
    user: Option<String>,
    form: OutputForm,
) -> Result<(), Failure> {
    let mut query = Vec::new();
    if let Some(device) = device {
        query.push(("device_id", device::find(api, &device).await?.id));
    }
    query.extend(user.map(|user| ("user_id", user)));
    let found = api
        .list(&SESSIONS, &query, "cannot list the sessions")
        .await?;
    if form == OutputForm::Json {
        return table::print_json(&Value::Array(found));
    }
    let mut rows = Vec::new();
    for value in &found {
        let session: wire::Session = decode(value, "a session")?;
        rows.push(vec![
            session.id,
            session.device_id,
            session.user_id,
            session.started_ts,
            session.ended_ts.unwrap_or_else(|| "goes on".into()),
            HumanBytes(session.output_bytes).to_string(),
        ]);
    }
    table::print(&["ID", "DEVICE", "USER", "BEGUN", "ENDED", "OUTPUT"], &rows)
}

async fn export(api: &Api, id: &str, target: &Path) -> Result<(), Failure> {
    let doing = format!("cannot export {id}");
    let path = [&SESSIONS[..], &[id, "export"]].concat();
    let mut response = api.stream(&path, &doing).await?;
    let mut output = OutputFile::create(target)?;
    loop {
        let piece = response
            .chunk()
            .await
            .map_err(reqwest::Error::without_url)
            .with_context(|| format!("{doing}: the connection was lost"))?;
        let Some(piece) = piece else { break };
        output
            .file()
            .write_all(&piece)
            .with_context(|| format!("cannot write {}", target.display()))?;
    }
    output.publish()?;
    Ok(())
}

/// How fast.
#[derive(Debug, Clone, Copy)]
struct Pace {
    speed: f64,
    max_idle: Option<Duration>,
}

impl Pace {
    fn pause(self, recorded_ms: u64) -> Duration {
        let recorded = Duration::from_millis(recorded_ms);
        let kept = self.max_idle.map_or(recorded, |idle| recorded.min(idle));
        kept.div_f64(self.speed)
    }
}

/// What has come and was not shown yet. The server sends as fast as it can, and must not wait.
#[derive(Default)]
struct Recording {
    waiting: VecDeque<Message>,
    bytes: usize,
}

async fn play(api: &Api, id: &str, pace: Pace) -> Result<(), Failure> {
    let doing = format!("cannot play {id}");
    let path = [&SESSIONS[..], &[id, "playback"]].concat();
    let mut session = Session::connect(api, &path, &doing)
        .await
        .map_err(|refused| refused.failure)?;
    let mut recording = Recording::default();
    let mut stage = Stage::default();
    let mut next = Instant::now();
    let mut over = false;
    loop {
        let due = !recording.waiting.is_empty();
        if over && !due {
            break;
        }
        tokio::select! {
            arrived = session.next(), if !over => match arrived {
                Ok(message) => {
                    recording.bytes += message.body.len();
                    if recording.bytes > RECORDING_BYTES_MAX {
                        return Err(anyhow!("{doing}: it has more than {RECORDING_BYTES_MAX} bytes").into());
                    }
                    recording.waiting.push_back(message);
                }
                Err(Ended::Closed(1000 | 1005, _)) => over = true,
                Err(ended) => return Err(ended.failure(&doing)),
            },
            () = sleep_until(next), if due => {
                let Some(message) = recording.waiting.pop_front() else { continue };
                let pause = message.props.int(shell::DELAY_VALUE).filter(|_| message.typ == shell::DELAY);
                match pause.and_then(|ms| u64::try_from(ms).ok()) {
                    Some(ms) => next = Instant::now() + pace.pause(ms),
                    None => if !stage.show(&message)? {
                        break;
                    },
                }
            }
        }
    }
    session.close().await;
    Ok(())
}

/// Where it is played.
#[derive(Default)]
struct Stage {
    screen: Screen,
    warned: bool,
}

impl Stage {
    /// `false` when nobody watches any more.
    fn show(&mut self, message: &Message) -> Result<bool, Failure> {
        match (message.proto, message.typ.as_str()) {
            (PROTO_SHELL, shell::SHELL) => {
                self.screen.watch(&message.body);
                let mut out = io::stdout().lock();
                match out.write_all(&message.body).and_then(|()| out.flush()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
                    Err(error) => return Err(error.into()),
                }
            }
            (PROTO_SHELL, shell::RESIZE) => {
                let recorded = shell::size(&message.props);
                if let (Some(recorded), Some(ours), false) = (recorded, tty::size(), self.warned)
                    && (recorded.0 > ours.0 || recorded.1 > ours.1)
                {
                    self.warned = true;
                    eprintln!(
                        "ambidex: the recording is {}x{}, larger than this terminal ({}x{})",
                        recorded.0, recorded.1, ours.0, ours.1
                    );
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let mut out = io::stdout();
        if out.is_terminal() {
            let reset = self.screen.reset();
            drop(out.write_all(reset.as_bytes()).and_then(|()| out.flush()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses() {
        let idle = |seconds| Some(Duration::from_secs(seconds));
        for (speed, max_idle, recorded_ms, pause_ms) in [
            (1.0, None, 2500, 2500),
            (2.0, None, 2500, 1250),
            (1.0, idle(2), 60_000, 2000),
            (4.0, idle(2), 60_000, 500),
            (4.0, idle(2), 1000, 250),
            (1.0, idle(0), 1000, 0),
        ] {
            let pace = Pace { speed, max_idle };
            assert_eq!(pace.pause(recorded_ms).as_millis(), pause_ms);
        }
        assert!(positive("0").is_err() && positive("nan").is_err() && positive("1e9").is_err());
        assert!(seconds("-1").is_err() && seconds("nan").is_err());
    }
}
