//! Steps that run a program of this machine.
//!
//! Only programs that the operator has listed are run, by their absolute path and without a shell; the list is empty
//! unless told otherwise. A program gets a process group of its own, which is ended as a whole when its time is up or
//! when the job is dropped, and an environment without the server's own settings.

use std::process::Stdio;
use std::time::Duration;

use ambidex_wire::management::workflows::{CliResult, CliTask, TaskResult};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::{Inner, OWN_ENVIRONMENT};

use super::super::template::Scope;
use super::{KEPT_BYTES_MAX, Outcome, kept};

/// Limit of a program whose definition names none, in seconds (reference section 7.1).
const TIME_OUT_DEFAULT_S: u64 = 4 * 3600;

/// Ends a process group unless told that its leader has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may be gone already.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

pub(super) async fn perform(inner: &Inner, task: &CliTask, scope: &Scope<'_>) -> Outcome {
    let command: Vec<String> = task.command.iter().map(|word| scope.text(word)).collect();
    let Some((program, arguments)) = command.split_first() else {
        return Outcome::refused("the command is empty");
    };
    if !inner.settings.binaries.iter().any(|known| known == program) {
        return Outcome::refused(format!(
            "{program} is not among the programs that workflows may run; list it in workflow_binaries in the server's configuration"
        ));
    }
    let seconds = u64::try_from(task.execution_time_out).unwrap_or(0);
    let limit = Duration::from_secs(if seconds == 0 {
        TIME_OUT_DEFAULT_S
    } else {
        seconds
    });
    let ran = run(program, arguments, limit).await;
    let (exit_code, output, errors, error) = match ran {
        Ok(Ended {
            exit_code,
            output,
            errors,
            timed_out,
        }) => {
            let error = timed_out.then(|| format!("not finished within {} s", limit.as_secs()));
            (exit_code, output, errors, error)
        }
        Err(error) => (
            -1,
            String::new(),
            String::new(),
            Some(format!("cannot run {program}: {error}")),
        ),
    };
    Outcome::of(TaskResult {
        success: exit_code == 0,
        error,
        cli: Some(CliResult {
            command,
            output,
            error: errors,
            exit_code,
        }),
        ..TaskResult::default()
    })
}

struct Ended {
    exit_code: i32,
    output: String,
    errors: String,
    timed_out: bool,
}

async fn run(program: &str, arguments: &[String], limit: Duration) -> std::io::Result<Ended> {
    let environment = std::env::vars_os()
        .filter(|(name, _)| !name.to_string_lossy().starts_with(OWN_ENVIRONMENT));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut group = Group(
        child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw),
    );
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (output, errors, status) = tokio::join!(collect(stdout), collect(stderr), child.wait());
        (output, errors, status)
    };
    let Ok((output, errors, status)) = tokio::time::timeout(limit, work).await else {
        drop(group);
        child.wait().await?;
        return Ok(Ended {
            exit_code: -1,
            output: String::new(),
            errors: String::new(),
            timed_out: true,
        });
    };
    group.0 = None;
    Ok(Ended {
        exit_code: status?.code().unwrap_or(-1),
        output,
        errors,
        timed_out: false,
    })
}

/// Reads to the end, keeps the beginning.
async fn collect(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else {
        return String::new();
    };
    let mut beginning = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read) = stream.read(&mut part).await {
        if read == 0 {
            break;
        }
        let room = KEPT_BYTES_MAX.saturating_sub(beginning.len());
        beginning.extend_from_slice(&part[..read.min(room)]);
    }
    kept(&beginning)
}
