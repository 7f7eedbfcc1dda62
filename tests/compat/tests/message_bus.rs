//! The login that our agent offers on the message bus: as the reference describes it, to root alone, and good
//! enough for Debian's `mender-connect`. Rows G1 and G2 of the agent's acceptance table.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ambidex_harness::{
    Device, Scratch, Server,
    binaries::find_tool,
    scratch::flow,
    server::{EMAIL, PASSWORD},
    skip, wait_for,
};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tokio::process::{Child, Command};

const LIMIT: Duration = Duration::from_secs(60);
const NAME: &str = "io.mender.AuthenticationManager";
const OBJECT: &str = "/io/mender/AuthenticationManager";
const GET: &str = "io.mender.Authentication1.GetJwtToken";
const FETCH: &str = "io.mender.Authentication1.FetchJwtToken";
const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../agent/support/io.mender.AuthenticationManager.conf"
);
/// Nobody in particular.
const OTHER: u32 = 65534;

fn can_run(tools: &[&str]) -> bool {
    let missing: Vec<&&str> = tools
        .iter()
        .filter(|tool| find_tool(tool).is_none())
        .collect();
    if !missing.is_empty() {
        skip(&format!(
            "not installed: {missing:?} (Debian packages dbus-daemon, dbus-bin, mender-connect, mender-cli)"
        ));
        return false;
    }
    if !nix::unistd::geteuid().is_root() {
        skip("the bus gives the login to root only");
        return false;
    }
    true
}

/// A message bus with the rules of a system's bus, and those that come with the agent.
struct Bus {
    folder: PathBuf,
    daemon: Child,
}

impl Bus {
    async fn start(scratch: &Scratch) -> Result<Bus> {
        let folder = scratch.join("bus");
        fs::create_dir_all(&folder)?;
        for path in [scratch.path(), &folder] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        let rules = format!(
            r#"<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <include>{POLICY}</include>
</busconfig>"#,
            socket = folder.join("socket").display()
        );
        fs::write(folder.join("bus.conf"), rules)?;
        let daemon = Bus::daemon(&folder).await?;
        Ok(Bus { folder, daemon })
    }

    async fn daemon(folder: &Path) -> Result<Child> {
        let log = fs::File::create(folder.join("log"))?;
        let daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile"])
            .arg(format!(
                "--config-file={}",
                folder.join("bus.conf").display()
            ))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting dbus-daemon")?;
        let socket = folder.join("socket");
        wait_for("the message bus", LIMIT, async || {
            Ok(tokio::net::UnixStream::connect(&socket).await.ok())
        })
        .await?;
        Ok(daemon)
    }

    /// Ends and begins anew, as by an update of its package.
    async fn restart(&mut self) -> Result<()> {
        self.daemon.kill().await?;
        fs::remove_file(self.folder.join("socket")).ok();
        self.daemon = Bus::daemon(&self.folder).await?;
        Ok(())
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.folder.join("socket").display())
    }

    /// Calls a method of the agent; the answer as text.
    async fn call(&self, user: Option<u32>, method: &str) -> Result<String> {
        let mut command = Command::new("dbus-send");
        command
            .arg(format!("--bus={}", self.address()))
            .arg("--print-reply=literal")
            .arg(format!("--dest={NAME}"))
            .args([OBJECT, method])
            .kill_on_drop(true);
        if let Some(user) = user {
            command.uid(user);
        }
        let output = tokio::time::timeout(LIMIT, command.output()).await??;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Waits for an answer that fits.
    async fn answers(&self, method: &str, fits: impl Fn(&str) -> bool) -> Result<String> {
        wait_for("the answer on the bus", LIMIT, async || {
            let answer = self.call(None, method).await.ok();
            Ok(answer.filter(|answer| fits(answer)))
        })
        .await
    }

    async fn signal(&self, interface: &str) -> Result<()> {
        let status = Command::new("dbus-send")
            .arg(format!("--bus={}", self.address()))
            .args(["--type=signal", "/somewhere", interface])
            .status()
            .await?;
        ensure!(status.success(), "the signal was not sent");
        Ok(())
    }
}

/// Writes down what a user hears on the bus.
struct Listener {
    log: PathBuf,
    _child: Child,
}

impl Listener {
    async fn start(bus: &Bus, user: u32) -> Result<Listener> {
        let log = bus.folder.join(format!("heard-by-{user}"));
        let child = Command::new("dbus-monitor")
            .args(["--address", &bus.address(), "type='signal'"])
            .uid(user)
            .stdout(fs::File::create(&log)?)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting dbus-monitor")?;
        let listener = Listener { log, _child: child };
        wait_for("the listener", LIMIT, async || {
            bus.signal("some.body.Begins").await?;
            Ok(listener.heard()?.contains("Begins").then_some(()))
        })
        .await?;
        Ok(listener)
    }

    fn heard(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }
}

#[test]
fn g1_root_and_nobody_else_finds_the_login_on_the_bus() {
    if !can_run(&["dbus-daemon", "dbus-send", "dbus-monitor"]) {
        return;
    }
    flow("message-bus", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let mut bus = Bus::start(&scratch).await?;
        let mut device = Device::new(
            &scratch.join("device"),
            "02:00:00:00:0d:01",
            &server.url(),
            "",
        )?;
        device.set_variable("DBUS_SYSTEM_BUS_ADDRESS", &bus.address());
        device.start()?;

        // Not accepted yet: empty texts. The bus was there before the agent.
        let words = |answer: &str| {
            answer
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        bus.answers(GET, |answer| words(answer).is_empty()).await?;
        api.accept_next(LIMIT).await?;
        let answer = bus.answers(GET, |answer| words(answer).len() == 2).await?;
        let [token, url] = words(&answer).try_into().unwrap_or_default();
        ensure!(url == server.url(), "{url}");
        ensure!(token.split('.').count() == 3, "no token");

        let described = bus
            .call(None, "org.freedesktop.DBus.Introspectable.Introspect")
            .await?;
        for part in [
            r#"<interface name="io.mender.Authentication1">"#,
            r#"<method name="GetJwtToken">"#,
            r#"<method name="FetchJwtToken">"#,
            r#"<signal name="JwtTokenStateChange">"#,
        ] {
            ensure!(described.contains(part), "{part} is not in {described}");
        }

        // A new login is told by the signal, to root; others do not even hear it.
        let root = Listener::start(&bus, 0).await?;
        let other = Listener::start(&bus, OTHER).await?;
        ensure!(
            bus.call(None, FETCH).await?.contains("true"),
            "no login was begun"
        );
        wait_for("the signal", LIMIT, async || {
            let heard = root.heard()?;
            let told = heard.split("JwtTokenStateChange").nth(1);
            Ok(told.filter(|told| told.contains(&server.url())).map(drop))
        })
        .await?;
        bus.signal("some.body.Ends").await?;
        wait_for("the other's signal", LIMIT, async || {
            Ok(other.heard()?.contains("Ends").then_some(()))
        })
        .await?;
        ensure!(
            !other.heard()?.contains("JwtToken"),
            "the token went to everybody"
        );
        for method in [GET, FETCH] {
            let refused = bus.call(Some(OTHER), method).await;
            let refused = refused.err().context("anybody may ask")?.to_string();
            ensure!(refused.contains("AccessDenied"), "{refused}");
        }

        // W13: a bus that begins anew is found again, and the agent has gone on in between.
        bus.restart().await?;
        bus.answers(GET, |answer| words(answer).len() == 2).await?;
        ensure!(device.is_running()?, "the agent died with the bus");
        Ok(())
    });
}

#[test]
fn g2_debians_terminal_daemon_takes_the_login_from_our_agent() {
    if !can_run(&["dbus-daemon", "dbus-send", "mender-connect", "mender-cli"]) {
        return;
    }
    flow("message-bus-addon", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let bus = Bus::start(&scratch).await?;
        let mut device = Device::new(
            &scratch.join("device"),
            "02:00:00:00:0d:02",
            &server.url(),
            "",
        )?;
        device.set_variable("DBUS_SYSTEM_BUS_ADDRESS", &bus.address());
        device.start()?;

        // It starts before the device is accepted, and waits for the signal.
        let config = scratch.join("connect.conf");
        let wishes = json!({"User": "daemon", "ShellCommand": "/bin/sh"});
        fs::write(&config, wishes.to_string())?;
        let log = scratch.join("connect.log");
        let _daemon = Command::new("mender-connect")
            .arg("--config")
            .arg(&config)
            .arg("--fallback-config")
            .arg(scratch.join("none.conf"))
            .args(["--debug", "daemon"])
            .current_dir("/")
            .env("DBUS_SYSTEM_BUS_ADDRESS", bus.address())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .context("starting mender-connect")?;
        let id = api.accept_next(LIMIT).await?;
        let path = format!("/api/management/v1/deviceconnect/devices/{id}");
        wait_for("the add-on's connection", LIMIT, async || {
            let found = api.get(&path).await.ok();
            Ok(found.filter(|found| found["status"] == "connected"))
        })
        .await
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;

        let (from, to) = (scratch.join("sent"), scratch.join("arrived"));
        fs::write(&from, b"over two daemons")?;
        let target = format!("{id}:{}", to.display());
        for arguments in [
            vec!["login", "--username", EMAIL, "--password", PASSWORD],
            vec!["cp", from.to_str().context("a path")?, &target],
        ] {
            let run = Command::new("mender-cli")
                .args(&arguments)
                .args(["--server", &server.url()])
                .env("HOME", scratch.path())
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output();
            let output = tokio::time::timeout(LIMIT, run).await??;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{arguments:?}: {said}");
        }
        ensure!(
            fs::read(&to)? == b"over two daemons",
            "another file arrived"
        );
        Ok(())
    });
}
