//! `ambidex cp`

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use ambidex_wire::session::{PROTO_FILE, file};
use anyhow::Context as _;
use clap::Args;
use indicatif::HumanBytes;

use super::copy_local::{ALL_PERMISSIONS, PERMISSIONS, dress, is_stdout, key, written};
use super::copy_path::{Place, Way, base_name};
use super::copy_session::{self, Moved, Sending, Target};
use super::device;
use super::socket::{Problem, Session};
use crate::OutputForm;
use crate::exit::Failure;
use crate::fleet::api::Api;
use crate::fleet::connection::Connection;
use crate::fleet::table;
use crate::interrupt::Own;
use crate::output_file::OutputFile;
use crate::progress::Progress;

/// The first pause between two tries, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
One of the two is on a device: DEVICE:/absolute/path. DEVICE is an id, a value of the identity, or the
beginning of either. A file that exists is replaced at once when the new one is complete, on either
side; a directory receives the file under its name. `-` as destination is standard output.

The SHA-256 of what was moved is printed in the form of sha256sum. --verify makes sure of it: the file
is read again on the device (and on this machine after a download) and must have the same one.

A transfer whose connection is lost goes on by itself where it was, with devices whose agent is ours; with
others it begins again from the start. With --resume also a later call goes on: what has been received waits
in DST.ambidex-part, what has been sent waits on the device, hidden beside its place, for a day. Nothing is
continued unless both sides have the same beginning, and the whole is compared by its SHA-256 before it takes
its name.

Examples:
    ambidex cp app.conf 5a8f0c9e:/etc/app.conf
    ambidex cp --verify -p firmware.bin pump-7:/data/
    ambidex cp --resume pump-7:/data/measured.db .
    ambidex cp 02:00:00:00:00:01:/var/log/messages .
    ambidex cp pump-7:/etc/app.conf - | diff app.conf -")]
pub struct Arguments {
    /// What to copy: a path here, or DEVICE:/path.
    #[arg(value_name = "SRC", value_parser = Place::parse)]
    from: Place,
    /// Where to: a path here, or DEVICE:/path.
    #[arg(value_name = "DST", value_parser = Place::parse)]
    to: Place,
    /// Keep owner, group, time of change, set-id and sticky bits too; permissions are always kept.
    #[arg(short, long)]
    preserve: bool,
    /// Read the file back on the far side and compare.
    #[arg(long)]
    verify: bool,
    /// How often to try again when the connection is lost; progress counts anew.
    #[arg(long, value_name = "TIMES", default_value_t = 5)]
    retries: u32,
    /// Go on where an earlier call with --resume was interrupted, and keep what there is if this one is.
    #[arg(long)]
    resume: bool,
    /// No progress bar.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What a copy needs to know, besides where.
struct Options {
    preserve: bool,
    verify: bool,
    quiet: bool,
    resume: bool,
}

/// What one try leaves for the next.
#[derive(Default)]
struct Kept {
    /// What is received.
    output: Option<OutputFile>,
    /// How far a transfer has come that can be continued.
    reached: u64,
    /// Something was under way before.
    again: bool,
}

/// A copy that did not work.
struct Trouble {
    /// It may, a little later.
    transient: bool,
    failure: Failure,
}

impl Arguments {
    pub async fn run(self, form: OutputForm) -> Result<(), Failure> {
        let way = Way::between(self.from, self.to).map_err(Failure::usage)?;
        let options = Options {
            preserve: self.preserve,
            verify: self.verify,
            quiet: self.quiet || form == OutputForm::Json,
            resume: self.resume,
        };
        let copy = Plan::prepare(way, options)?;
        let api = self.connection.api()?;
        let device = device::find(&api, copy.device()).await?;
        let started = Instant::now();
        let moved = repeated(&api, &device.id, &copy, self.retries).await?;
        copy.report(&moved, started.elapsed(), form)
    }
}

/// Copies, and goes on when the connection is lost on the way. A device that is not there at the
/// beginning is not waited for.
async fn repeated(api: &Api, device: &str, copy: &Plan, retries: u32) -> Result<Moved, Failure> {
    let doing = copy.doing();
    let mut own = Own::take().context("cannot hear of signals")?;
    let mut kept = Kept::default();
    let mut begun = false;
    let mut pause = PAUSE;
    let mut left = retries;
    loop {
        let reached = kept.reached;
        let opening = Session::with_device(api, device, &doing);
        let outcome = match own.unless_asked(opening).await {
            None => return Err(copy.interrupted()),
            Some(Ok(session)) => {
                begun = true;
                once(session, copy, &mut kept, &mut own).await
            }
            Some(Err(refused)) => Err(Trouble {
                transient: refused.transient && begun,
                failure: refused.failure,
            }),
        };
        if kept.reached > reached {
            (pause, left) = (PAUSE, retries);
        }
        match outcome {
            Ok(moved) => return Ok(moved),
            Err(trouble) if trouble.transient && left > 0 => {
                left -= 1;
                eprintln!(
                    "ambidex: {:#}; trying again in {} s ({left} more tries)",
                    trouble.failure.error,
                    pause.as_secs()
                );
                if own.unless_asked(tokio::time::sleep(pause)).await.is_none() {
                    return Err(copy.interrupted());
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(trouble) => return Err(trouble.failure),
        }
    }
}

async fn once(
    mut session: Session,
    copy: &Plan,
    kept: &mut Kept,
    own: &mut Own,
) -> Result<Moved, Trouble> {
    let work = async {
        session.demand(PROTO_FILE, "file transfer").await?;
        match &copy.way {
            Way::Up { to, .. } => copy.up(&mut session, to, kept).await,
            Way::Down { from, .. } => copy.down(&mut session, from, kept).await,
        }
    };
    let outcome = own.unless_asked(work).await;
    // The device need not keep what nobody will ask for.
    if !copy.options.resume && !matches!(outcome, Some(Ok(_) | Err(Problem::Ended(_)))) {
        copy_session::give_up(&mut session).await;
    }
    session.close().await;
    match outcome {
        Some(Ok(moved)) => Ok(moved),
        Some(Err(problem)) => Err(Trouble {
            transient: matches!(&problem, Problem::Ended(ended) if ended.transient()),
            failure: problem.failure(&copy.doing()),
        }),
        None => Err(Trouble {
            transient: false,
            failure: copy.interrupted(),
        }),
    }
}

struct Plan {
    way: Way,
    options: Options,
}

impl Plan {
    /// Looks at this machine's side before anything is asked of the server.
    fn prepare(way: Way, options: Options) -> Result<Self, Failure> {
        let way = match way {
            Way::Up { from, device, to } => {
                let meta = fs::metadata(&from)
                    .with_context(|| format!("cannot read {}", from.display()))?;
                if !meta.is_file() {
                    return Err(Failure::usage(format!(
                        "{} is no plain file; pack directories with tar first",
                        from.display()
                    )));
                }
                Way::Up { from, device, to }
            }
            Way::Down { device, from, to } => {
                let Some(name) = base_name(&from) else {
                    return Err(Failure::usage(format!("{from} names no file")));
                };
                if options.resume && is_stdout(&to) {
                    return Err(Failure::usage(
                        "what goes to standard output cannot be continued; name a file with --resume",
                    ));
                }
                let to = if to.is_dir() { to.join(name) } else { to };
                Way::Down { device, from, to }
            }
        };
        Ok(Self { way, options })
    }

    fn device(&self) -> &str {
        match &self.way {
            Way::Up { device, .. } | Way::Down { device, .. } => device,
        }
    }

    fn ends(&self) -> (String, String) {
        match &self.way {
            Way::Up { from, device, to } => (from.display().to_string(), format!("{device}:{to}")),
            Way::Down { device, from, to } => {
                (format!("{device}:{from}"), to.display().to_string())
            }
        }
    }

    fn interrupted(&self) -> Failure {
        let text = if self.options.resume {
            "interrupted; the same command goes on from here"
        } else {
            "interrupted"
        };
        Failure::from(anyhow::Error::msg(text))
    }

    fn doing(&self) -> String {
        let (from, to) = self.ends();
        format!("cannot copy {from} to {to}")
    }

    async fn up(&self, session: &mut Session, to: &str, kept: &mut Kept) -> Result<Moved, Problem> {
        let Way::Up { from, .. } = &self.way else {
            return Err(Problem::text("not an upload"));
        };
        let here = |error: anyhow::Error| Problem::Failed(error.into());
        let mut source = File::open(from)
            .with_context(|| format!("cannot read {}", from.display()))
            .map_err(here)?;
        let meta = source
            .metadata()
            .with_context(|| format!("cannot read {}", from.display()))
            .map_err(here)?;
        let name = from
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let path = destination(session, to, name.as_deref()).await?;
        let keep = self.options.preserve;
        let mode = if keep { ALL_PERMISSIONS } else { PERMISSIONS };
        let announce = file::PutFile {
            src_path: name,
            path: path.clone(),
            size: Some(meta.len()),
            uid: keep.then(|| meta.uid()),
            gid: keep.then(|| meta.gid()),
            mode: Some(meta.mode() & mode),
            modtime: keep.then(|| file::Timestamp {
                seconds: meta.mtime(),
                nanos: u32::try_from(meta.mtime_nsec()).unwrap_or_default(),
            }),
        };
        let key = key(&mut source, &meta).map_err(here)?;
        let sending = Sending {
            announce: &announce,
            key: &key,
            keep_long: self.options.resume,
            again: std::mem::replace(&mut kept.again, true),
        };
        let progress = Progress::new("sending", meta.len(), self.options.quiet);
        let moved =
            copy_session::put(session, sending, source, &progress, &mut kept.reached).await?;
        drop(progress);
        if self.options.verify {
            self.read_back(session, &path, &moved).await?;
        }
        Ok(moved)
    }

    async fn down(
        &self,
        session: &mut Session,
        from: &str,
        kept: &mut Kept,
    ) -> Result<Moved, Problem> {
        let Way::Down { to, .. } = &self.way else {
            return Err(Problem::text("not a download"));
        };
        let here = |error: anyhow::Error| Problem::Failed(error.into());
        let info = copy_session::stat(session, from).await?;
        if !info.is_file() {
            return Err(Problem::text(format!("{from} is no plain file")));
        }
        let output = match &mut kept.output {
            Some(output) => output,
            none => none.insert(
                if self.options.resume {
                    OutputFile::resumable(to)
                } else {
                    OutputFile::create(to)
                }
                .map_err(here)?,
            ),
        };
        let target = Target::continuing(output.file()).await.map_err(here)?;
        let progress = Progress::new(
            "receiving",
            info.size.unwrap_or_default(),
            self.options.quiet,
        );
        let moved = copy_session::get(session, from, target, &progress, &mut kept.reached).await?;
        drop(progress);
        if self.options.verify {
            if written(output.file()).map_err(here)? != moved.sha256 {
                return Err(Problem::text(format!(
                    "what was written to {} is not what came; is the disk in order?",
                    to.display()
                )));
            }
            self.read_back(session, from, &moved).await?;
        }
        if !is_stdout(to) {
            dress(output.file(), &info, self.options.preserve).map_err(here)?;
        }
        if let Some(output) = kept.output.take() {
            output.publish().map_err(here)?;
        }
        Ok(moved)
    }

    /// Has the device's file sent once more, and compares.
    async fn read_back(
        &self,
        session: &mut Session,
        path: &str,
        moved: &Moved,
    ) -> Result<(), Problem> {
        let progress = Progress::new("verifying", moved.bytes, self.options.quiet);
        let again = copy_session::get(session, path, Target::nothing(), &progress, &mut 0).await?;
        if (again.bytes, &again.sha256) == (moved.bytes, &moved.sha256) {
            return Ok(());
        }
        Err(Problem::text(format!(
            "verification failed: {path} on the device has {} bytes with SHA-256 {}, but {} bytes with {} were moved; did it change meanwhile?",
            again.bytes, again.sha256, moved.bytes, moved.sha256
        )))
    }

    fn report(&self, moved: &Moved, took: Duration, form: OutputForm) -> Result<(), Failure> {
        let (from, to) = self.ends();
        let seconds = took.as_secs_f64();
        let to_stdout = matches!(&self.way, Way::Down { to, .. } if is_stdout(to));
        if form == OutputForm::Json && !to_stdout {
            return table::print_json(&serde_json::json!({
                "source": from,
                "destination": to,
                "bytes": moved.bytes,
                "sha256": moved.sha256,
                "resumed_at": moved.resumed_at,
                "verified": self.options.verify,
                "seconds": (seconds * 1000.0).round() / 1000.0,
            }));
        }
        if !self.options.quiet {
            let rate = ((moved.bytes - moved.resumed_at) as f64 / seconds.max(0.001)) as u64;
            eprintln!(
                "{} in {seconds:.1} s, {}/s{}",
                HumanBytes(moved.bytes),
                HumanBytes(rate),
                if self.options.verify {
                    ", verified"
                } else {
                    ""
                }
            );
        }
        let line = format!("{}  {to}\n", moved.sha256);
        if to_stdout {
            eprint!("{line}");
            return Ok(());
        }
        table::emit(&line)
    }
}

/// The whole path of an upload: what is a directory there receives the file under its name.
async fn destination(
    session: &mut Session,
    path: &str,
    name: Option<&str>,
) -> Result<String, Problem> {
    let directory = match copy_session::stat(session, path).await {
        Ok(info) => info
            .mode
            .is_some_and(|mode| mode & file::MODE_DIRECTORY != 0),
        Err(Problem::Ended(ended)) => return Err(Problem::Ended(ended)),
        // Mostly: there is nothing yet. Otherwise the upload itself is refused.
        Err(Problem::Failed(_)) => false,
    };
    match name {
        Some(name) if directory => Ok(format!("{}/{name}", path.trim_end_matches('/'))),
        _ if path.ends_with('/') => Err(Problem::text(format!(
            "{path} is no directory on the device"
        ))),
        _ => Ok(path.to_owned()),
    }
}
