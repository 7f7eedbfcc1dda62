//! A device with a recording update module and recording state scripts, the real agent under a supervisor that starts
//! it again whenever it dies, and a server that offers one deployment.

use std::{
    collections::BTreeMap,
    io::Cursor,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ambidex_agent::deployment::Store;
use ambidex_artifact::{ArtifactSpec, Payload, PayloadSource, Script, write};

use crate::support::{self, Answer, Device, Request, Server, answer, default_answer};

pub const DEPLOYMENT: &str = "30b3e62c-9ec2-4312-a7fa-cff24cc7397a";

/// How long a deployment may take, restarts included.
const LIMIT: Duration = Duration::from_secs(60);

/// States with scripts in the artifact.
const ARTIFACT_STATES: [&str; 6] = [
    "ArtifactInstall",
    "ArtifactReboot",
    "ArtifactCommit",
    "ArtifactRollback",
    "ArtifactRollbackReboot",
    "ArtifactFailure",
];

/// What a recording program does after it has written its name down.
const BEHAVIOUR: &str = r#"
act() {
    echo "$1" >> "$LAB/trace"
    : > "$LAB/running/$$"
    trap 'rm -f "$LAB/running/$$"' EXIT
    for how in kill fail hang; do
        hit=
        [ -e "$LAB/$how/$1" ] && { rm "$LAB/$how/$1"; hit=yes; }
        [ -e "$LAB/$how-always/$1" ] && hit=yes
        [ -n "$hit" ] || continue
        case $how in
            kill) kill -9 "$PPID"; exit 9 ;;
            fail) echo "told to fail" >&2; exit 1 ;;
            hang) sleep 600 ;;
        esac
    done
    [ -e "$LAB/run/$1" ] && . "$LAB/run/$1"
}
"#;

/// How the server treats a status report: by its ordinal and word.
type Treatment = dyn Fn(usize, &str) -> Option<Answer> + Send + Sync;

/// How the storage answers for the artifact; it gets the artifact's bytes.
pub type Storage = dyn Fn(&Request, &[u8]) -> Answer + Send + Sync;

#[derive(Default)]
struct Seen {
    statuses: Vec<String>,
    finals_accepted: usize,
    log: Option<serde_json::Value>,
    /// Path and query of the link that is offered; empty: the plain one.
    link: String,
    storage: Option<Arc<Storage>>,
}

pub struct Trial {
    pub device: Device,
    pub server: Server,
    seen: Arc<Mutex<Seen>>,
    agent: Option<Child>,
    /// The server does not answer while this is set.
    pub offline: Arc<AtomicBool>,
    /// How often the agent was started.
    pub lives: usize,
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the artifact is.
pub struct Offer {
    pub payload: Payload,
    pub provides: BTreeMap<String, String>,
    pub clears: Option<Vec<String>>,
    pub device_type: &'static str,
    /// Payload files: names and contents.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            payload: Payload::Module("mod".into()),
            provides: BTreeMap::from([("rootfs-image.mod.version".into(), "2".into())]),
            clears: Some(vec!["rootfs-image.mod.*".into()]),
            device_type: "test-board",
            files: vec![("file", b"the new thing".to_vec())],
        }
    }
}

impl Offer {
    /// The artifact's bytes; `lab` is where its scripts write their names.
    pub fn artifact(&self, lab: &str) -> Vec<u8> {
        let mut spec = ArtifactSpec::new(
            self.payload.clone(),
            "new",
            vec![self.device_type.to_owned()],
        );
        spec.type_provides = self.provides.clone();
        spec.clears_provides = self.clears.clone();
        let empty = self.payload == Payload::Empty;
        if !empty {
            for state in ARTIFACT_STATES {
                for action in ["Enter", "Leave", "Error"] {
                    if action == "Error" && ["ArtifactRollback", "ArtifactFailure"].contains(&state)
                    {
                        continue;
                    }
                    let name = format!("{state}_{action}_00");
                    let content = recorder(lab, &format!("{state}_{action}")).into_bytes();
                    spec.scripts.push(Script { name, content });
                }
            }
        }
        let files = if empty {
            Vec::new()
        } else {
            self.files
                .iter()
                .map(|(name, content)| PayloadSource::from_bytes(*name, content))
                .collect()
        };
        let mut out = Cursor::new(Vec::new());
        write(&spec, &files, None, &mut out, &mut |_| {}).unwrap();
        out.into_inner()
    }
}

fn recorder(lab: &str, name: &str) -> String {
    format!("#!/bin/sh\nLAB={lab}\n{BEHAVIOUR}\nact {name}\nexit 0\n")
}

impl Trial {
    pub async fn new(reboot: &str, extra_config: &str) -> Self {
        Self::offering(&Offer::default(), reboot, extra_config, |_, _| None).await
    }

    /// `reboot` is the module's answer to NeedsArtifactReboot.
    pub async fn offering(
        offer: &Offer,
        reboot: &str,
        extra_config: &str,
        treatment: impl Fn(usize, &str) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let artifact: Arc<Mutex<Vec<u8>>> = Arc::default();
        let treatment: Box<Treatment> = Box::new(treatment);
        let offline: Arc<AtomicBool> = Arc::default();
        let server = {
            let (seen, artifact, offline) = (
                Arc::clone(&seen),
                Arc::clone(&artifact),
                Arc::clone(&offline),
            );
            Server::start(move |request| match offline.load(Ordering::Relaxed) {
                true => Answer::Close,
                false => respond(request, &seen, &artifact, &treatment),
            })
            .await
        };
        let device = Device::new(&[&server.url], extra_config);
        // A rebuild in the middle of a test run must not change the program between two lives.
        let program = env!("CARGO_BIN_EXE_ambidex-agent");
        if std::fs::hard_link(program, device.path("ambidex-agent")).is_err() {
            std::fs::copy(program, device.path("ambidex-agent")).unwrap();
        }
        let trial = Self {
            device,
            server,
            seen,
            agent: None,
            offline,
            lives: 0,
        };
        *artifact.lock().unwrap() = offer.artifact(&trial.lab());
        for folder in [
            "kill",
            "kill-always",
            "fail",
            "fail-always",
            "hang",
            "answer",
            "run",
            "running",
        ] {
            std::fs::create_dir_all(trial.device.path("lab").join(folder)).unwrap();
        }
        trial.answers("NeedsArtifactReboot", reboot);
        trial.answers("SupportsRollback", "Yes");
        let lab = trial.lab();
        trial.device.script(
            "data/modules/v3/mod",
            &format!(
                "LAB={lab}\n{BEHAVIOUR}\nact \"$1\"\n[ -e \"$LAB/answer/$1\" ] && cat \"$LAB/answer/$1\"\nexit 0"
            ),
        );
        trial.device.script(
            "lab/reboot",
            &format!("LAB={lab}\n{BEHAVIOUR}\nact reboot\nkill -9 \"$PPID\""),
        );
        std::fs::create_dir_all(trial.device.path("conf/scripts")).unwrap();
        for action in ["Enter", "Leave", "Error"] {
            let name = format!("conf/scripts/Download_{action}_00");
            trial.device.script(
                &name,
                recorder(&lab, &format!("Download_{action}")).trim_start_matches("#!/bin/sh\n"),
            );
        }
        trial
    }

    /// From now on the artifact comes from here.
    pub fn store_with(&self, storage: impl Fn(&Request, &[u8]) -> Answer + Send + Sync + 'static) {
        self.seen.lock().unwrap().storage = Some(Arc::new(storage));
    }

    /// From now on this link is offered; begins with `/artifact`.
    pub fn offer_link(&self, link: &str) {
        link.clone_into(&mut self.seen.lock().unwrap().link);
    }

    /// The server forgets the result and offers the deployment once more.
    pub fn offer_again(&self) {
        let mut seen = self.seen.lock().unwrap();
        seen.finals_accepted = 0;
        seen.statuses.clear();
        seen.log = None;
    }

    fn lab(&self) -> String {
        self.device.path("lab").display().to_string()
    }

    fn touch(&self, how: &str, name: &str) {
        std::fs::write(self.device.path("lab").join(how).join(name), "").unwrap();
    }

    /// `how` is `fail`, `kill` or `hang` (once), `fail-always` or `kill-always`.
    pub fn tell(&self, how: &str, names: &[&str]) {
        for name in names {
            self.touch(how, name);
        }
    }

    /// What the module prints in a call.
    pub fn answers(&self, call: &str, text: &str) {
        let text = if text.is_empty() {
            String::new()
        } else {
            format!("{text}\n")
        };
        std::fs::write(self.device.path("lab/answer").join(call), text).unwrap();
    }

    /// Shell commands to run in a call.
    pub fn does(&self, call: &str, commands: &str) {
        std::fs::write(self.device.path("lab/run").join(call), commands).unwrap();
    }

    /// The lab comes first in the path: a `reboot` that is not told otherwise is the recording one.
    pub fn agent_command(&self) -> Command {
        let mut command = Command::new(self.device.path("ambidex-agent"));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.lab()))
            .env("AMBIDEX_CONF_DIR", self.device.path("conf"))
            .env("AMBIDEX_DATA_DIR", self.device.path("data"))
            .env("AMBIDEX_STATE_DIR", self.device.path("state"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end: exit code and standard output.
    pub fn verb(&self, args: &[&str]) -> (i32, String) {
        let output = self.agent_command().args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        eprintln!(
            "{args:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.code().unwrap_or(-1), text)
    }

    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.device.path("agent.log"))
            .unwrap();
        let child = self
            .agent_command()
            .arg("daemon")
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.agent = Some(child);
        self.lives += 1;
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.agent.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether a recording program that the agent started still runs.
    pub fn is_something_running(&self) -> bool {
        std::fs::read_dir(self.device.path("lab/running"))
            .unwrap()
            .any(|entry| {
                let pid = entry.unwrap().file_name().into_string().unwrap();
                std::path::Path::new("/proc").join(pid).exists()
            })
    }

    pub fn is_alive(&mut self) -> bool {
        self.agent
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Whether the server has the result, and the agent has noted that.
    pub fn is_over(&self) -> bool {
        self.seen.lock().unwrap().finals_accepted > 0 && self.store_is_settled()
    }

    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.agent.take().unwrap();
        Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .unwrap();
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                Instant::now() < limit,
                "the agent does not stop:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts the agent, and again whenever it dies, until `done`.
    pub async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + LIMIT;
        while !done(self) {
            let dead = match &mut self.agent {
                Some(child) => child.try_wait().unwrap().is_some(),
                None => true,
            };
            if dead {
                self.agent = None;
                self.start();
            }
            assert!(
                Instant::now() < limit,
                "not done after {} lives: trace {:?}, statuses {:?}\n{}",
                self.lives,
                self.trace(),
                self.statuses(),
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Until the server has taken the result, and the log of a failure.
    pub async fn run(&mut self) {
        self.until(|trial| {
            let seen = trial.seen.lock().unwrap();
            let failed = seen
                .statuses
                .last()
                .is_some_and(|status| status == "failure");
            seen.finals_accepted > 0 && (!failed || seen.log.is_some())
        })
        .await;
        // The result is told: what the agent noted of it must be on disk before it is looked at.
        self.until(|trial| trial.store_is_settled()).await;
        self.kill();
    }

    fn store_is_settled(&self) -> bool {
        Store::open(&self.device.path("state"))
            .is_ok_and(|store| store.deployment().is_none() && store.reports().is_empty())
    }

    pub fn store(&self) -> Store {
        Store::open(&self.device.path("state")).unwrap()
    }

    pub fn name(&self) -> String {
        self.store().artifact_name().unwrap_or("none").to_owned()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.device.path("agent.log")).unwrap_or_default()
    }

    /// What was called, without the questions, `Artifact` left out of the names.
    pub fn trace(&self) -> String {
        let text = std::fs::read_to_string(self.device.path("lab/trace")).unwrap_or_default();
        let calls: Vec<String> = text
            .lines()
            .filter(|line| {
                ![
                    "NeedsArtifactReboot",
                    "SupportsRollback",
                    "ProvidePayloadFileSizes",
                ]
                .contains(line)
            })
            .map(|line| line.replace("Artifact", ""))
            .collect();
        calls.join(" ")
    }

    pub fn statuses(&self) -> String {
        self.seen.lock().unwrap().statuses.join(" ")
    }

    /// The uploaded log's messages.
    pub fn uploaded_log(&self) -> Option<serde_json::Value> {
        self.seen.lock().unwrap().log.clone()
    }

    pub fn tree(&self) -> PathBuf {
        self.device.path("state/modules/v3/payloads/0000/tree")
    }

    /// Compares everything; prints the agent's own words when it differs.
    pub fn check(&self, chain: &str, statuses: &str, name: &str) {
        let chain: Vec<&str> = chain.split_whitespace().collect();
        assert_eq!(self.trace(), chain.join(" "), "calls\n{}", self.log());
        assert_eq!(self.statuses(), statuses, "statuses\n{}", self.log());
        assert_eq!(self.name(), name, "name\n{}", self.log());
    }
}

fn respond(
    request: &Request,
    seen: &Mutex<Seen>,
    artifact: &Mutex<Vec<u8>>,
    treatment: &Treatment,
) -> Answer {
    let mut seen = seen.lock().unwrap();
    if request.target.contains("/deployments/next") && seen.finals_accepted == 0 {
        let host = request.header("host").unwrap_or_default();
        let link = match seen.link.as_str() {
            "" => "/artifact",
            link => link,
        };
        let body = serde_json::json!({
            "id": DEPLOYMENT,
            "artifact": {
                "artifact_name": "new",
                "source": {"uri": format!("http://{host}{link}"), "expire": "2099-01-01T00:00:00Z"},
                "device_types_compatible": ["test-board"],
            },
        });
        return answer(200, body.to_string());
    }
    if request.target.starts_with("/artifact")
        && let Some(storage) = seen.storage.clone()
    {
        let artifact = artifact.lock().unwrap().clone();
        drop(seen);
        return storage(request, &artifact);
    }
    if request.target == "/artifact" {
        return answer(200, artifact.lock().unwrap().clone());
    }
    if request.target.ends_with(&format!("/{DEPLOYMENT}/status")) {
        let status = request.json()["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let ordinal = seen.statuses.len();
        let treated = treatment(ordinal, &status);
        let accepted = !matches!(&treated, Some(Answer::Send { status, .. }) if *status >= 500);
        if ["success", "failure"].contains(&status.as_str()) && accepted {
            seen.finals_accepted += 1;
        }
        seen.statuses.push(status);
        return treated.unwrap_or_else(|| answer(204, ""));
    }
    if request.target.ends_with(&format!("/{DEPLOYMENT}/log")) {
        seen.log = Some(request.json());
        return answer(204, "");
    }
    default_answer(request)
}

/// Waits for a condition in the world outside.
pub async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < limit, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn aborted() -> Answer {
    support::answer(409, r#"{"error":"deployment aborted","request_id":"r"}"#)
}
