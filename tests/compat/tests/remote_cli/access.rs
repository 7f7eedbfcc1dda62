//! Who reaches which device, and over what.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ambidex_harness::flow;
use ambidex_test_compat::{Manner, Simulated};
use anyhow::{Result, ensure};
use tokio::net::{TcpListener, TcpStream};

use crate::desk::{Desk, MAC, content};

#[test]
fn devices_that_cannot_be_reached_are_told_apart() {
    flow("cli-remote-refusals", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        let offers_files = vec![ambidex_wire::session::PROTO_FILE];
        let other = Simulated::start_with(
            &desk.server,
            &desk.api,
            "02:00:00:00:0c:02",
            Manner::Ours,
            offers_files,
        )
        .await?;
        let told = desk.fails(2, &["terminal", "02:00:00:00:0c"]).await?;
        ensure!(
            told.contains("2 devices") && told.contains(&other.id),
            "{told}"
        );
        let told = desk.fails(1, &["terminal", "no-such-device"]).await?;
        ensure!(told.contains("no accepted device"), "{told}");
        let told = desk.fails(1, &["terminal", &other.id]).await?;
        ensure!(told.contains("starts no shell"), "{told}");
        let told = desk.fails(1, &["port-forward", &other.id, "0:80"]).await?;
        ensure!(told.contains("does not offer port forwarding"), "{told}");
        let told = desk
            .fails(2, &["port-forward", &other.id, "icmp/1"])
            .await?;
        ensure!(told.contains("neither tcp nor udp"), "{told}");
        let id = other.id.clone();
        other.leave(&desk.api).await?;
        let there = format!("{id}:/etc/hostname");
        for verb in [
            &["terminal", &id][..],
            &["cp", &there, "x"],
            &["ssh-proxy", &id],
        ] {
            let told = desk.fails(1, verb).await?;
            ensure!(told.contains("not connected"), "{verb:?}: {told}");
        }
        let mut anonymous = desk.command(&["terminal", &id])?;
        anonymous.env("XDG_CONFIG_HOME", scratch.join("nobody"));
        let output = anonymous.output().await?;
        ensure!(output.status.code() == Some(3), "{output:?}");
        Ok(())
    });
}

/// What stands before a server in the field: takes TLS off. Its address.
async fn tls_front(server: SocketAddr, cert: &Path, key: &Path) -> Result<SocketAddr> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_file(cert)?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us goes away.
                let mut outside = acceptor.accept(stream).await?;
                let mut inside = TcpStream::connect(server).await?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    Ok(address)
}

#[test]
fn sessions_are_as_private_as_all_else() {
    flow("cli-remote-tls", async |scratch| {
        let Some((cert, key)) = ambidex_harness::tls::self_signed(scratch.path())? else {
            return Ok(());
        };
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        let front = tls_front(desk.server.address(), &cert, &key).await?;
        let url = format!("https://{front}");
        let token = desk.api.token();
        let cert = cert.to_string_lossy().into_owned();
        let trusting = ["--server", &url, "--token", token, "--server-cert", &cert];
        let terminal = [&["terminal", MAC][..], &trusting].concat();
        let output = desk.fed(&terminal, b"echo $((40 + 2))\n").await?;
        let shown = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && shown.contains("42"),
            "{output:?}"
        );
        let local = desk.home.join("local.bin");
        fs::write(&local, content(1_000_000))?;
        let there = desk.there(&scratch.join("there.bin"));
        let copy = ["cp", "--verify", "local.bin", &there];
        desk.must(&[&copy[..], &trusting].concat()).await?;
        let told = desk.fails(1, &[&copy[..], &trusting[..4]].concat()).await?;
        ensure!(told.contains("certificate"), "{told}");
        desk.must(&[&copy[..], &trusting[..4], &["--insecure"]].concat())
            .await?;
        let anybody = [
            "--server",
            &url,
            "--token",
            "nonsense",
            "--server-cert",
            &cert,
        ];
        desk.fails(3, &[&["terminal", &desk.device.id], &anybody[..]].concat())
            .await?;
        Ok(())
    });
}
