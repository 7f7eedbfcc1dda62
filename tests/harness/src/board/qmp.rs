//! One command to QEMU's control socket.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// Connects, executes `command` without arguments, waits for its result.
pub(super) async fn execute(socket: &Path, command: &str) -> Result<()> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("connecting to {}", socket.display()))?;
    let mut stream = BufReader::new(stream);
    answer(&mut stream, "QMP")
        .await
        .context("reading QEMU's greeting")?;
    for name in ["qmp_capabilities", command] {
        stream
            .get_mut()
            .write_all(format!("{}\n", json!({"execute": name})).as_bytes())
            .await
            .context("writing to QEMU")?;
        answer(&mut stream, "return")
            .await
            .with_context(|| format!("executing {name}"))?;
    }
    Ok(())
}

/// Reads up to the message with `key`; events in between are skipped.
async fn answer(stream: &mut BufReader<UnixStream>, key: &str) -> Result<()> {
    loop {
        let mut line = String::new();
        if stream
            .read_line(&mut line)
            .await
            .context("reading from QEMU")?
            == 0
        {
            bail!("QEMU has closed its control socket");
        }
        let message: Value =
            serde_json::from_str(&line).context("QEMU answered with something else than JSON")?;
        if let Some(error) = message.get("error") {
            bail!("QEMU refuses: {error}");
        }
        if message.get(key).is_some() {
            return Ok(());
        }
    }
}
