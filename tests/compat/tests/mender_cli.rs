//! Debian's `mender-cli`, unmodified: logs in, uploads, lists and deletes.

use std::{path::Path, process::Output, time::Duration};

use ambidex_harness::{
    Scratch, Server,
    binaries::find_tool,
    scratch::flow,
    server::{EMAIL, PASSWORD},
    skip,
};
use anyhow::{Context, Result, bail};
use tokio::{process::Command, time::timeout};

const LIMIT: Duration = Duration::from_secs(60);

async fn run(home: &Path, arguments: &[&str]) -> Result<Output> {
    let output = Command::new("mender-cli")
        .args(arguments)
        .env("HOME", home)
        .kill_on_drop(true)
        .output();
    timeout(LIMIT, output)
        .await
        .context("mender-cli hangs")?
        .context("starting mender-cli")
}

async fn succeed(home: &Path, arguments: &[&str]) -> Result<String> {
    let output = run(home, arguments).await?;
    if !output.status.success() {
        bail!(
            "mender-cli {} ended with {}: {}",
            arguments.first().unwrap_or(&""),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn log_in(server: &Server, scratch: &Scratch) -> Result<String> {
    let url = server.url();
    succeed(
        scratch.path(),
        &[
            "login",
            "--server",
            &url,
            "--username",
            EMAIL,
            "--password",
            PASSWORD,
        ],
    )
    .await?;
    Ok(url)
}

#[test]
fn logs_in_uploads_lists_and_deletes() {
    if find_tool("mender-cli").is_none() || find_tool("mender-artifact").is_none() {
        return skip(
            "mender-cli or mender-artifact is not installed (Debian packages of the same names)",
        );
    }
    flow("mender-cli", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let url = log_in(&server, &scratch).await?;
        let home = scratch.path();

        let payload = scratch.join("hello.txt");
        std::fs::write(&payload, "hello\n")?;
        let artifact = scratch.join("app-1.mender");
        let written = Command::new("mender-artifact")
            .args([
                "write",
                "module-image",
                "-T",
                "single-file",
                "-n",
                "app-1",
                "-t",
                "testdev",
            ])
            .arg("-f")
            .arg(&payload)
            .arg("-o")
            .arg(&artifact)
            .output()
            .await?;
        if !written.status.success() {
            bail!(
                "mender-artifact: {}",
                String::from_utf8_lossy(&written.stderr)
            );
        }
        let artifact = artifact.to_string_lossy().into_owned();
        succeed(
            home,
            &[
                "artifacts",
                "upload",
                "--server",
                &url,
                "--no-progress",
                &artifact,
            ],
        )
        .await?;

        let listed = succeed(home, &["artifacts", "list", "--server", &url]).await?;
        assert!(
            listed.contains("app-1"),
            "the uploaded artifact is not listed:\n{listed}"
        );

        let again = run(
            home,
            &[
                "artifacts",
                "upload",
                "--server",
                &url,
                "--no-progress",
                &artifact,
            ],
        )
        .await?;
        assert!(!again.status.success(), "the same artifact was taken twice");

        let api = server.login().await?;
        let artifacts = api.get("/api/management/v1/deployments/artifacts").await?;
        let id = artifacts[0]["id"]
            .as_str()
            .context("the artifact has no id")?
            .to_owned();
        succeed(home, &["artifacts", "delete", "--server", &url, &id]).await?;
        let left = api.get("/api/management/v1/deployments/artifacts").await?;
        assert_eq!(
            left.as_array().map(Vec::len),
            Some(0),
            "the artifact is still listed: {left}"
        );
        Ok(())
    });
}

#[test]
fn is_refused_with_a_wrong_password() {
    if find_tool("mender-cli").is_none() {
        return skip("mender-cli is not installed (Debian package mender-cli)");
    }
    flow("mender-cli-refused", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let output = run(
            scratch.path(),
            &[
                "login",
                "--server",
                &server.url(),
                "--username",
                EMAIL,
                "--password",
                "wrong",
            ],
        )
        .await?;
        assert!(!output.status.success(), "a wrong password was accepted");
        Ok(())
    });
}
