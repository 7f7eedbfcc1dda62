//! The fleet verbs of the operator CLI against the real server: login, artifacts, devices, deployments.

#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use ambidex_artifact::SigningKey;
use ambidex_harness::scratch::flow;
use ambidex_harness::server::{EMAIL, PASSWORD};
use ambidex_harness::{Server, binaries};
use base64::Engine as _;
use serde_json::{Value, json};

/// A shell of one operator: own home, own profile.
struct Operator<'a> {
    home: &'a Path,
    server: String,
}

impl Operator<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binaries::cli().unwrap());
        command
            .args(arguments)
            .current_dir(self.home)
            .env("XDG_CONFIG_HOME", self.home.join("config"));
        for name in [
            "AMBIDEX_SERVER",
            "AMBIDEX_TOKEN",
            "AMBIDEX_PROFILE",
            "AMBIDEX_SERVER_CERT",
        ] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.must(&[arguments, &["--output", "json"]].concat())).unwrap()
    }

    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        String::from_utf8(output.stderr).unwrap()
    }

    fn log_in(&self) {
        fs::write(self.home.join("password"), format!("{PASSWORD}\n")).unwrap();
        self.must(&[
            "login",
            "--server",
            &self.server,
            "--email",
            EMAIL,
            "--password-file",
            "password",
        ]);
    }

    fn artifact(&self, name: &str) -> String {
        fs::write(self.home.join("payload.txt"), name).unwrap();
        let file = format!("{name}.mender");
        self.must(&[
            "artifact",
            "write",
            "module-image",
            "-T",
            "single-file",
            "-f",
            "payload.txt",
            "-c",
            "testdev",
            "-n",
            name,
            "-o",
            &file,
        ]);
        file
    }
}

/// An authentication request as a device sends it, over one connection.
fn ask_for_admission(server: &Server, folder: &Path, mac: &str) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    openssl(&[
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
        "-out",
        "device.key",
    ]);
    openssl(&["pkey", "-in", "device.key", "-pubout", "-out", "device.pub"]);
    let key =
        SigningKey::from_pem(&fs::read_to_string(folder.join("device.key")).unwrap()).unwrap();
    let body = json!({
        "id_data": json!({ "mac": mac }).to_string(),
        "pubkey": fs::read_to_string(folder.join("device.pub")).unwrap(),
    })
    .to_string();
    let signature =
        base64::engine::general_purpose::STANDARD.encode(key.sign(body.as_bytes()).unwrap());
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(
        stream,
        "POST /api/devices/v1/authentication/auth_requests HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
         content-type: application/json\r\nx-men-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
        server.address(),
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    // Not admitted yet.
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[test]
fn without_a_login_the_verbs_say_so() {
    flow("cli-login", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let operator = Operator {
            home: scratch.path(),
            server: server.url(),
        };
        for verb in ["devices", "artifacts", "deployments"] {
            let message = operator.fails(3, &[verb]);
            assert!(message.contains("ambidex login"), "{message}");
        }
        fs::write(scratch.join("wrong"), "not the password\n")?;
        let message = operator.fails(
            3,
            &[
                "login",
                "--server",
                &operator.server,
                "--email",
                EMAIL,
                "--password-file",
                "wrong",
            ],
        );
        assert!(
            message.contains(EMAIL) && !message.contains("not the password"),
            "{message}"
        );
        let message = operator.fails(
            2,
            &[
                "login",
                "--server",
                "http://192.0.2.1",
                "--email",
                EMAIL,
                "--password-file",
                "wrong",
            ],
        );
        assert!(message.contains("not encrypted"), "{message}");
        let message = operator.fails(
            1,
            &[
                "login",
                "--server",
                "http://127.0.0.1:1",
                "--email",
                EMAIL,
                "--password-file",
                "wrong",
            ],
        );
        assert!(message.contains("is it up"), "{message}");
        assert!(
            !scratch.join("config").exists(),
            "a failed login leaves nothing"
        );

        operator.log_in();
        let profile = scratch.join("config/ambidex/profiles/default.json");
        assert_eq!(fs::metadata(&profile)?.permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&profile)?.contains(PASSWORD));
        operator.must(&["devices"]);
        // The token goes to the server that gave it only.
        let message = operator.fails(3, &["devices", "--server", "http://127.0.0.1:1"]);
        assert!(message.contains("not for"), "{message}");
        fs::set_permissions(&profile, fs::Permissions::from_mode(0o644))?;
        let message = operator.fails(1, &["devices"]);
        assert!(message.contains("chmod 600"), "{message}");
        operator.must(&["login", "--forget"]);
        operator.fails(3, &["devices"]);
        Ok(())
    });
}

#[test]
fn artifacts_go_up_and_come_down_the_same() {
    flow("cli-artifacts", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let operator = Operator {
            home: scratch.path(),
            server: server.url(),
        };
        operator.log_in();
        let file = operator.artifact("app-1");
        let id = operator.json(&["artifacts", "upload", &file, "--description", "first"])["id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(operator.must(&["artifacts", "list"]).contains(&id));
        assert_eq!(
            operator.json(&["artifacts", "show", "app-1"])["description"],
            "first"
        );
        operator.must(&["artifacts", "download", "app-1", "-o", "copy.mender"]);
        assert_eq!(
            fs::read(scratch.join("copy.mender"))?,
            fs::read(scratch.join(&file))?
        );

        let message = operator.fails(1, &["artifacts", "upload", &file]);
        assert!(message.contains("409"), "{message}");
        let message = operator.fails(1, &["artifacts", "upload", "payload.txt"]);
        assert!(message.contains("not an artifact"), "{message}");
        let message = operator.fails(1, &["artifacts", "download", "app-9"]);
        assert!(message.contains("app-9"), "{message}");
        operator.must(&["artifacts", "delete", &id]);
        assert_eq!(operator.json(&["artifacts"]), json!([]));
        Ok(())
    });
}

#[test]
fn a_device_is_accepted_and_a_deployment_followed() {
    if binaries::find_tool("openssl").is_none() {
        return ambidex_harness::skip("openssl is not installed (apt-get install openssl)");
    }
    flow("cli-deployments", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let operator = Operator {
            home: scratch.path(),
            server: server.url(),
        };
        operator.log_in();
        ask_for_admission(&server, scratch.path(), "00:11:22:33:44:55");
        let listed = operator.must(&["devices", "list", "--status", "pending"]);
        assert!(listed.contains("mac=00:11:22:33:44:55"), "{listed}");
        operator.must(&["devices", "accept", "--all-pending"]);
        let devices = operator.json(&["devices"]);
        assert_eq!(devices[0]["status"], "accepted", "{devices}");
        let device = devices[0]["id"].as_str().unwrap();
        assert!(
            operator
                .must(&["devices", "show", device])
                .contains("00:11:22:33:44:55")
        );

        let message = operator.fails(2, &["deployments", "create", "--artifact", "app-1"]);
        assert!(message.contains("--device"), "{message}");
        operator.must(&["artifacts", "upload", &operator.artifact("app-1")]);
        let made = operator.json(&[
            "deployments",
            "create",
            "--artifact",
            "app-1",
            "--device",
            device,
        ]);
        let id = made["id"].as_str().unwrap();
        assert!(operator.must(&["deployments"]).contains(id));
        let shown = operator.must(&["deployments", "show", id]);
        assert!(shown.contains("1 pending"), "{shown}");
        let message = operator.fails(4, &["deployments", "watch", id, "--timeout", "0"]);
        assert!(message.contains("not finished"), "{message}");
        operator.must(&["deployments", "abort", id]);
        let message = operator.fails(4, &["deployments", "watch", id]);
        assert!(message.contains("0 of 1 devices"), "{message}");
        operator.must(&["deployments", "logs", id]);

        operator.must(&["devices", "reject", device]);
        assert_eq!(operator.json(&["devices"])[0]["status"], "rejected");
        operator.must(&["devices", "decommission", device]);
        Ok(())
    });
}
