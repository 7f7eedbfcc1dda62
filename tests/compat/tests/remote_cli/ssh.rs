//! `ambidex ssh-proxy` under the real OpenSSH: `ssh`, `scp` and `sshd`, our server and our agent between.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ambidex_harness::binaries::{self, find_tool};
use ambidex_harness::{Scratch, flow, skip};
use ambidex_test_compat::Agent;
use anyhow::{Context as _, Result, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::desk::{Desk, LIMIT, content};

/// What the packaged start of `sshd` makes.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// The programs of OpenSSH, if they are here.
fn openssh() -> Option<PathBuf> {
    let missing: Vec<&str> = ["ssh", "scp", "ssh-keygen", "sshd"]
        .into_iter()
        .filter(|tool| find_tool(tool).is_none())
        .collect();
    if !missing.is_empty() {
        skip(&format!(
            "not installed: {missing:?} (Debian packages openssh-client, openssh-server)"
        ));
        return None;
    }
    // without it sshd does not start as root, and nobody else can make it
    if nix::unistd::geteuid().is_root()
        && let Err(error) = fs::create_dir_all(PRIVILEGE_SEPARATION)
    {
        skip(&format!("{PRIVILEGE_SEPARATION} cannot be made: {error}"));
        return None;
    }
    find_tool("sshd")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

async fn new_key(path: &Path) -> Result<()> {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", &text(path)])
        .stdin(Stdio::null())
        .status()
        .await?;
    ensure!(made.success(), "ssh-keygen: {made}");
    Ok(())
}

/// An SSH server for one user and one key; its port. A process for every connection, as from inetd.
async fn ssh_server(sshd: PathBuf, scratch: &Scratch) -> Result<u16> {
    let folder = scratch.join("sshd");
    fs::create_dir(&folder)?;
    new_key(&folder.join("host_key")).await?;
    new_key(&scratch.join("key")).await?;
    fs::copy(scratch.join("key.pub"), folder.join("authorized_keys"))?;
    let config = folder.join("sshd_config");
    fs::write(
        &config,
        format!(
            "HostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized_keys\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nPidFile none\n",
            folder.display()
        ),
    )?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = stream.into_std() else {
                continue;
            };
            let socket = stream
                .set_nonblocking(false)
                .and_then(|()| stream.try_clone());
            let Ok(socket) = socket else { continue };
            let log = fs::File::options()
                .create(true)
                .append(true)
                .open(folder.join("log"));
            let Ok(log) = log else { continue };
            let child = Command::new(&sshd)
                .args(["-i", "-e", "-f", &text(&config)])
                .stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)))
                .stdout(Stdio::from(std::os::fd::OwnedFd::from(stream)))
                .stderr(log)
                .kill_on_drop(true)
                .spawn();
            if let Ok(mut child) = child {
                tokio::spawn(async move { child.wait().await });
            }
        }
    });
    Ok(port)
}

/// What `ssh` and `scp` are told, besides the device.
fn options(desk: &Desk<Agent>, scratch: &Scratch) -> Result<Vec<String>> {
    let proxy = format!("{} ssh-proxy %h:%p", text(&binaries::cli()?));
    let known = text(&scratch.join("known_hosts"));
    let key = text(&scratch.join("key"));
    ensure!(!desk.id.contains(':'));
    Ok([
        "-F",
        "none",
        "-o",
        &format!("ProxyCommand={proxy}"),
        "-o",
        &format!("UserKnownHostsFile={known}"),
        "-o",
        "StrictHostKeyChecking=accept-new",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "BatchMode=yes",
        "-i",
        &key,
    ]
    .map(str::to_owned)
    .to_vec())
}

#[test]
fn openssh_works_through_the_proxy() {
    let Some(sshd) = openssh() else {
        return;
    };
    flow("cli-openssh", async |scratch| {
        let desk = Desk::with_agent(&scratch).await?;
        let port = ssh_server(sshd.clone(), &scratch).await?.to_string();
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?;
        let user = user.context("who runs the tests has no name")?.name;
        let options = options(&desk, &scratch)?;
        let log = || fs::read_to_string(scratch.join("sshd/log")).unwrap_or_default();
        let run = async |program: &str, arguments: &[&str], input: &[u8]| {
            let mut command = Command::new(program);
            desk.dress(&mut command);
            command.args(&options).args(arguments);
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let mut stdin = child.stdin.take().context("its input")?;
            let input = input.to_vec();
            let feeding = tokio::spawn(async move {
                // it may end before it has read all
                let _ = stdin.write_all(&input).await;
            });
            let output = timeout(LIMIT, child.wait_with_output()).await;
            let output = output.with_context(|| format!("{program} hangs: {}", log()))??;
            feeding.await?;
            anyhow::Ok(output)
        };
        let place = format!("{user}@{}", desk.id);
        let login = ["-p", &port, &place];

        // words both ways, and the exit code
        let arguments = [&login[..], &["echo I am $((40 + 2)); exit 7"]].concat();
        let output = run("ssh", &arguments, b"").await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.code() == Some(7) && said == "I am 42\n",
            "{output:?}: {}",
            log()
        );
        // much both ways at once
        let data = content(3_000_001);
        let output = run("ssh", &[&login[..], &["cat"]].concat(), &data).await?;
        ensure!(
            output.status.success() && output.stdout == data,
            "{} bytes came back: {}",
            output.stdout.len(),
            String::from_utf8_lossy(&output.stderr)
        );
        // files
        let (local, there) = (scratch.join("local.bin"), scratch.join("there.bin"));
        fs::write(&local, &data)?;
        let target = format!("{place}:{}", there.display());
        let output = run("scp", &["-P", &port, &text(&local), &target], b"").await?;
        ensure!(output.status.success(), "{output:?}: {}", log());
        ensure!(fs::read(&there)? == data, "scp has copied something else");
        Ok(())
    });
}
