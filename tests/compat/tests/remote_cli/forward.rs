//! `ambidex port-forward` and `ssh-proxy`.

use std::process::Stdio;

use ambidex_harness::flow;
use ambidex_test_compat::Manner;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::Child;
use tokio::time::timeout;

use crate::desk::{Desk, LIMIT, MAC, content, signal};

/// Sends back what it gets.
pub async fn echo_server() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(port)
}

async fn udp_echo_server() -> Result<u16> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let port = socket.local_addr()?.port();
    tokio::spawn(async move {
        let mut buffer = [0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..count], from).await;
        }
    });
    Ok(port)
}

/// A port forward that runs, and where its ports are.
pub async fn forwarding<D>(desk: &Desk<D>, forwards: &[String]) -> Result<(Child, Vec<String>)> {
    let forwards: Vec<&str> = forwards.iter().map(String::as_str).collect();
    let arguments = [&["port-forward", &desk.id][..], &forwards].concat();
    let mut child = desk.command(&arguments)?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let mut places = Vec::new();
    for _ in &forwards {
        let line = timeout(LIMIT, lines.next_line()).await??;
        let line = line.context("it prints no more ports")?;
        let place = line.split(' ').nth(1).context("a place")?.to_owned();
        places.push(place);
    }
    Ok((child, places))
}

pub async fn echoed(place: &str, size: usize) -> Result<()> {
    let mut stream = TcpStream::connect(place).await?;
    let data = content(size);
    let mut back = vec![0; data.len()];
    let (mut from, mut to) = stream.split();
    let both = async { tokio::try_join!(to.write_all(&data), from.read_exact(&mut back)) };
    timeout(LIMIT, both).await.context("it hangs")??;
    ensure!(back == data, "the echo is another");
    Ok(())
}

#[test]
fn ports_are_forwarded() {
    for manner in [Manner::Ours, Manner::Reference] {
        flow("cli-port-forward", async |scratch| {
            let desk = Desk::start(&scratch, manner).await?;
            let (tcp, udp) = (echo_server().await?, udp_echo_server().await?);
            let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
            let forwards = [
                format!("0:{tcp}"),
                format!("udp/0:127.0.0.1:{udp}"),
                format!("0:localhost:{tcp}"),
                format!("0:{closed}"),
            ];
            let (mut child, places) = forwarding(&desk, &forwards).await?;
            echoed(&places[0], 1_000_000).await?;
            echoed(&places[2], 100).await?;
            let many = (0..20).map(|n| echoed(&places[0], 10_000 + n));
            futures_util::future::try_join_all(many).await?;

            // What the device cannot reach is closed at once, and said.
            let mut refused = TcpStream::connect(&places[3]).await?;
            let mut nothing = [0];
            let count = timeout(LIMIT, refused.read(&mut nothing)).await?;
            ensure!(count.unwrap_or(0) == 0);

            // Each local sender gets its own answers.
            for name in ["one", "other"] {
                let socket = UdpSocket::bind("127.0.0.1:0").await?;
                socket.connect(&places[1]).await?;
                let datagram = name.repeat(400);
                socket.send(datagram.as_bytes()).await?;
                let mut back = [0; 4096];
                let count = timeout(LIMIT, socket.recv(&mut back)).await??;
                ensure!(back[..count] == *datagram.as_bytes());
            }

            // An open connection does not hold up the end.
            let mut open = TcpStream::connect(&places[0]).await?;
            open.write_all(b"x").await?;
            open.read_exact(&mut nothing).await?;
            signal(&child, Signal::SIGINT)?;
            let status = timeout(LIMIT, child.wait()).await??;
            ensure!(status.success(), "{status}");
            ensure!(timeout(LIMIT, open.read(&mut nothing)).await?.unwrap_or(0) == 0);
            Ok(())
        });
    }
}

#[test]
fn a_port_forward_connects_again() {
    flow("cli-port-forward-again", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        let tcp = echo_server().await?;
        let (mut child, places) = forwarding(&desk, &[format!("0:{tcp}")]).await?;
        let mut open = TcpStream::connect(&places[0]).await?;
        let mut nothing = [0];
        open.write_all(b"x").await?;
        open.read_exact(&mut nothing).await?;
        desk.device.break_now();
        ensure!(timeout(LIMIT, open.read(&mut nothing)).await?.unwrap_or(0) == 0);
        // The port is still there; whoever comes waits until the device is back.
        echoed(&places[0], 10_000).await?;
        signal(&child, Signal::SIGTERM)?;
        ensure!(timeout(LIMIT, child.wait()).await??.success());
        Ok(())
    });
}

#[test]
fn ssh_finds_its_way() {
    flow("cli-ssh-proxy", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        // Says who it is, answers once, closes: as much of SSH as a proxy sees.
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port().to_string();
        let data = content(500_000);
        let expected = data.len();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut got = vec![0; expected];
                let talk = async {
                    stream.write_all(b"SSH-2.0-test\r\n").await?;
                    stream.read_exact(&mut got).await?;
                    stream.write_all(&got).await
                };
                let _ = talk.await;
            }
        });
        let target = format!("{}:{port}", desk.device.id);
        for arguments in [
            &["ssh-proxy", &target][..],
            &["ssh-proxy", MAC, "--port", &port],
        ] {
            let output = desk.fed(arguments, &data).await?;
            ensure!(
                output.status.success(),
                "{:?}",
                String::from_utf8_lossy(&output.stderr)
            );
            ensure!(output.stdout.starts_with(b"SSH-2.0-test\r\n"));
            ensure!(output.stdout.get(14..) == Some(&data[..]), "other bytes");
        }
        let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let told = desk
            .fails(1, &["ssh-proxy", &format!("{}:{closed}", desk.device.id)])
            .await?;
        ensure!(told.contains("refused"), "{told}");
        // OpenSSH ends its proxy with a hangup.
        let mut child = desk
            .command(&["ssh-proxy", &target])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut greeting = [0; 14];
        let stdout = child.stdout.as_mut().context("its output")?;
        timeout(LIMIT, stdout.read_exact(&mut greeting)).await??;
        signal(&child, Signal::SIGHUP)?;
        let _stdin = child.stdin.take();
        let output = timeout(LIMIT, child.wait_with_output()).await??;
        ensure!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
        Ok(())
    });
}
