//! Keys that never leave their token: the agent logs in to a real server, and to a server that wants a client
//! certificate, with keys in SoftHSM and in a (software) TPM 2.0.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use ambidex_harness::{
    Device, Scratch, Server,
    binaries::{find_tool, pkcs11_helper},
    scratch::flow,
    skip, wait_for,
};
use anyhow::{Context as _, Result, bail, ensure};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::{Child, Command},
};

const LIMIT: Duration = Duration::from_secs(60);
const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "4321";

fn tpm_module() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?;
    folders
        .filter_map(|entry| Some(entry.ok()?.path().join("pkcs11/libtpm2_pkcs11.so")))
        .find(|path| path.is_file())
}

fn missing(tools: &[&str], modules: &[Option<PathBuf>]) -> bool {
    let missing: Vec<&&str> = tools
        .iter()
        .filter(|tool| find_tool(tool).is_none())
        .collect();
    let complete = modules
        .iter()
        .all(|module| module.as_ref().is_some_and(|path| path.is_file()));
    if missing.is_empty() && complete {
        return false;
    }
    skip(&format!(
        "not installed: {missing:?} or a token's library (Debian packages softhsm2, swtpm, tpm2-tools, libtss2-tcti-swtpm0, tpm2-abrmd, libtss2-tcti-tabrmd0, libtpm2-pkcs11-1, libtpm2-pkcs11-tools, dbus-daemon)"
    ));
    true
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// A token, and what a process needs to know in its environment to find it.
struct Token {
    module: PathBuf,
    environment: Vec<(&'static str, String)>,
    _daemons: Vec<Child>,
}

impl Token {
    /// SoftHSM with keys of `openssl` in it, a label each.
    async fn soft(folder: &Path, keys: &[(&str, &[&str])]) -> Result<Token> {
        pkcs11_helper()?;
        fs::create_dir_all(folder.join("tokens"))?;
        let conf = folder.join("softhsm2.conf");
        let text = format!(
            "directories.tokendir = {}\n",
            folder.join("tokens").display()
        );
        fs::write(&conf, text)?;
        let token = Token {
            module: SOFTHSM.into(),
            environment: vec![("SOFTHSM2_CONF", conf.display().to_string())],
            _daemons: Vec::new(),
        };
        let util = || {
            let mut command = Command::new("softhsm2-util");
            command.env("SOFTHSM2_CONF", &conf);
            command
        };
        let init = [
            "--init-token",
            "--free",
            "--label",
            "device",
            "--so-pin",
            "12345678",
            "--pin",
            PIN,
        ];
        run(util().args(init)).await?;
        for (number, (label, generate)) in keys.iter().enumerate() {
            let pem = folder.join(format!("{label}.pem"));
            run(Command::new("openssl")
                .arg("genpkey")
                .args(*generate)
                .arg("-out")
                .arg(&pem))
            .await?;
            let id = format!("{number:02}");
            let import = [
                "--token", "device", "--label", label, "--id", &id, "--pin", PIN,
            ];
            run(util().arg("--import").arg(&pem).args(import)).await?;
        }
        Ok(token)
    }

    /// A TPM in software, with a key of each kind that `tpm2_ptool` makes.
    async fn tpm(folder: &Path, keys: &[(&str, &str)]) -> Result<Token> {
        pkcs11_helper()?;
        let (state, store) = (folder.join("tpm"), folder.join("store"));
        fs::create_dir_all(&state)?;
        fs::create_dir_all(&store)?;
        let (server, control) = (folder.join("tpm.sock"), folder.join("tpm.sock.ctrl"));
        let tpm = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg(format!("--tpmstate=dir={}", state.display()))
            .arg(format!("--server=type=unixio,path={}", server.display()))
            .arg(format!("--ctrl=type=unixio,path={}", control.display()))
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("tpm.log"))?)
            .kill_on_drop(true)
            .spawn()
            .context("starting swtpm")?;
        wait_for("the TPM", LIMIT, async || Ok(server.exists().then_some(()))).await?;
        // A TPM has room for three keys at a time; its resource manager gives everybody that room.
        let socket = folder.join("tpm.bus");
        let address = format!("unix:path={}", socket.display());
        let bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile"])
            .arg(format!("--address={address}"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting dbus-daemon")?;
        wait_for("the bus", LIMIT, async || Ok(socket.exists().then_some(()))).await?;
        let manager = Command::new("tpm2-abrmd")
            .args(["--session", "--allow-root"])
            .arg(format!("--tcti=swtpm:path={}", server.display()))
            .env("DBUS_SESSION_BUS_ADDRESS", &address)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting tpm2-abrmd")?;
        let tcti = "tabrmd:bus_type=session".to_owned();
        let token = Token {
            module: tpm_module().context("a library")?,
            environment: vec![
                ("TPM2_PKCS11_TCTI", tcti.clone()),
                ("DBUS_SESSION_BUS_ADDRESS", address.clone()),
                ("TPM2_PKCS11_STORE", store.display().to_string()),
                ("TSS2_LOG", "all+NONE".to_owned()),
            ],
            _daemons: vec![manager, bus, tpm],
        };
        let tool = |verb: &str| {
            let mut command = Command::new("tpm2_ptool");
            command.arg(verb).arg("--path").arg(&store);
            command
                .env("TPM2TOOLS_TCTI", &tcti)
                .env("TPM2_PKCS11_TCTI", &tcti)
                .env("DBUS_SESSION_BUS_ADDRESS", &address);
            command
        };
        wait_for("the resource manager", LIMIT, async || {
            let name = "com.intel.tss2.Tabrmd";
            let found = Command::new("dbus-send")
                .arg(format!("--bus={address}"))
                .args(["--print-reply", "--dest=org.freedesktop.DBus", "/"])
                .args([
                    "org.freedesktop.DBus.GetNameOwner",
                    &format!("string:{name}"),
                ])
                .output()
                .await?;
            Ok(found.status.success().then_some(()))
        })
        .await?;
        run(&mut tool("init")).await?;
        let add = [
            "--pid",
            "1",
            "--label",
            "device",
            "--userpin",
            PIN,
            "--sopin",
            "12345678",
        ];
        run(tool("addtoken").args(add)).await?;
        for (label, algorithm) in keys {
            let add = [
                "--label",
                "device",
                "--key-label",
                label,
                "--userpin",
                PIN,
                "--algorithm",
                algorithm,
            ];
            run(tool("addkey").args(add)).await?;
        }
        Ok(token)
    }

    fn uri(&self, label: &str, folder: &Path) -> Result<String> {
        let pin = folder.join("pin");
        fs::write(&pin, format!("{PIN}\n"))?;
        Ok(format!(
            "pkcs11:token=device;object={label}?pin-source={}",
            pin.display()
        ))
    }

    /// A device whose configuration names the key.
    fn device(&self, folder: &Path, label: &str, url: &str, more: &str) -> Result<Device> {
        let security = format!(
            "[security]\nauth_private_key = {:?}\npkcs11_module = {:?}\n{more}",
            self.uri(label, folder)?,
            self.module
        );
        let mac = format!("02:00:00:00:0e:{:02x}", label.len());
        let mut device = Device::new(&folder.join(label), &mac, url, &security)?;
        for (name, value) in &self.environment {
            device.set_variable(name, value);
        }
        Ok(device)
    }
}

/// The agent logs in with this key, and the server has seen exactly its public half.
async fn logs_in(scratch: &Scratch, server: &Server, token: &Token, label: &str) -> Result<()> {
    let api = server.login().await?;
    let mut device = token.device(scratch.path(), label, &server.url(), "")?;
    device.start()?;
    let id = api.accept_next(LIMIT).await.with_context(|| device.log())?;
    wait_for("the inventory of the device", LIMIT, async || {
        let path = format!("/api/management/v1/inventory/devices/{id}");
        let found = api.get(&path).await?;
        let attributes = found["attributes"].as_array().cloned().unwrap_or_default();
        Ok(attributes
            .iter()
            .any(|one| one["name"] == "device_type")
            .then_some(()))
    })
    .await
    .with_context(|| device.log())?;
    ensure!(!device.log().contains(PIN), "the PIN is in the log");
    let shown = device.verb(&["status"]).await?.stdout;
    ensure!(shown.contains(&format!("object={label}")), "{shown}");
    ensure!(!shown.contains("pin"), "{shown}");
    Ok(())
}

#[test]
fn keys_in_softhsm_log_the_device_in() {
    if missing(&["softhsm2-util", "openssl"], &[Some(SOFTHSM.into())]) {
        return;
    }
    flow("token-softhsm", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let keys: [(&str, &[&str]); 2] = [
            (
                "rsa",
                &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            ),
            (
                "p256",
                &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            ),
        ];
        let token = Token::soft(scratch.path(), &keys).await?;
        for (label, _) in keys {
            logs_in(&scratch, &server, &token, label).await?;
        }
        Ok(())
    });
}

#[test]
fn keys_in_a_tpm_log_the_device_in() {
    let tools = [
        "swtpm",
        "tpm2_ptool",
        "tpm2-abrmd",
        "dbus-daemon",
        "dbus-send",
    ];
    if missing(&tools, &[tpm_module()]) {
        return;
    }
    flow("token-tpm", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let keys = [("rsa", "rsa2048"), ("p256", "ecc256")];
        let token = Token::tpm(scratch.path(), &keys).await?;
        for (label, _) in keys {
            logs_in(&scratch, &server, &token, label).await?;
        }
        Ok(())
    });
}

#[test]
fn what_is_wrong_with_a_token_is_named() {
    if missing(&["softhsm2-util", "openssl"], &[Some(SOFTHSM.into())]) {
        return;
    }
    flow("token-mistakes", async |scratch| {
        let keys: [(&str, &[&str]); 1] = [(
            "p256",
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        )];
        let token = Token::soft(scratch.path(), &keys).await?;
        let good = token.uri("p256", scratch.path())?;
        let cases = [
            (
                good.replace("object=p256", "object=other"),
                "no private key that fits",
            ),
            (
                good.replace("token=device", "token=other"),
                "there are: 'device'",
            ),
            (good.replace("/pin", "/nopin"), "cannot be read"),
            (
                good.split('?').next().unwrap_or_default().to_owned(),
                "wants a PIN",
            ),
            (
                format!(
                    "{}?pin-value=9999",
                    good.split('?').next().unwrap_or_default()
                ),
                "log in to the token",
            ),
            (
                format!("{good}&module-path=/nowhere.so"),
                "'/nowhere.so' cannot be used",
            ),
        ];
        for (number, (uri, said)) in cases.iter().enumerate() {
            let security =
                format!("[security]\nauth_private_key = {uri:?}\npkcs11_module = {SOFTHSM:?}\n");
            let folder = scratch.join(&format!("device-{number}"));
            let mut device = Device::new(
                &folder,
                "02:00:00:00:0e:ff",
                "http://127.0.0.1:9",
                &security,
            )?;
            for (name, value) in &token.environment {
                device.set_variable(name, value);
            }
            let shown = device.verb(&["bootstrap"]).await?;
            ensure!(shown.code != Some(0), "{uri} was taken");
            ensure!(shown.stderr.contains(said), "{uri}: {}", shown.stderr);
            ensure!(!shown.stderr.contains("9999"), "{}", shown.stderr);
        }
        Ok(())
    });
}

/// A server that wants a certificate of an authority of its own, and tells what was asked of it.
async fn strict_server(
    folder: &Path,
) -> Result<(String, tokio::sync::mpsc::UnboundedReceiver<String>)> {
    let certificate = |name: &str| -> Result<Vec<CertificateDer<'static>>> {
        let pem = fs::read(folder.join(name))?;
        Ok(CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>()?)
    };
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.crt")?.remove(0))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(folder.join("server.key"))?)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificate("server.crt")?, key)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://localhost:{}", listener.local_addr()?.port());
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut buffer = vec![0; 16 << 10];
            if let Ok(count) = stream.read(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                let _ = sender.send(text);
                let answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    Ok((url, requests))
}

#[test]
fn a_client_certificate_has_its_key_in_a_token() {
    if missing(&["softhsm2-util", "openssl"], &[Some(SOFTHSM.into())]) {
        return;
    }
    flow("token-mtls", async |scratch| {
        let folder = scratch.path();
        let keys: [(&str, &[&str]); 2] = [
            (
                "rsa",
                &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            ),
            (
                "p256",
                &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            ),
        ];
        let token = Token::soft(folder, &keys).await?;
        let openssl = |line: &str| {
            let mut command = Command::new("openssl");
            command.args(line.split_whitespace()).current_dir(folder);
            command
        };
        fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n")?;
        run(&mut openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority")).await?;
        run(&mut openssl("genpkey -algorithm RSA -out server.key")).await?;
        for name in ["server", "rsa", "p256"] {
            let key = if name == "server" {
                "server.key".to_owned()
            } else {
                format!("{name}.pem")
            };
            run(&mut openssl(&format!(
                "req -new -key {key} -out {name}.csr -subj /CN={name}"
            )))
            .await?;
            run(&mut openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out {name}.crt -extfile names"
            )))
            .await?;
        }
        let (url, mut requests) = strict_server(folder).await?;
        for (label, _) in keys {
            let more = format!(
                "[https_client]\ncertificate = {:?}\nkey = {:?}\n",
                folder.join(format!("{label}.crt")),
                token.uri(label, folder)?
            );
            let authority = format!("server_certificate = {:?}\n", folder.join("ca.crt"));
            let security = format!(
                "{authority}[security]\npkcs11_module = {:?}\n{more}",
                token.module
            );
            let mut device = Device::new(
                &folder.join(format!("mtls-{label}")),
                "02:00:00:00:0e:aa",
                &url,
                &security,
            )?;
            for (name, value) in &token.environment {
                device.set_variable(name, value);
            }
            device.start()?;
            let request = tokio::time::timeout(LIMIT, requests.recv()).await;
            let request = request
                .with_context(|| device.log())?
                .context("a request")?;
            ensure!(
                request.starts_with("POST /api/devices/v1/authentication/auth_requests"),
                "{request}"
            );
            device.kill().await?;
            while requests.try_recv().is_ok() {}
        }
        Ok(())
    });
}
