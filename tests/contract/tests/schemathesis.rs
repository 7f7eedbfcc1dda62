//! Schemathesis, a fuzzer that reads OpenAPI documents, against both listeners: no server error, and no
//! answer that its schema does not allow.

use std::process::Stdio;

use ambidex_harness::{binaries, flow, skip};
use ambidex_test_contract::{DeviceKey, World};
use anyhow::{Context as _, Result, bail};

/// What a fuzzed call would take from under the run itself: the session, the user, the tenant.
const SPARED: &str = "/auth/logout$|/tokens$|/cancel$|/users/\\{id\\}$|/users/me$|/tenants/\\{id\\}/status$|/connect$|/playback$";

/// Random calls of each operation, beside those that its schema suggests.
const CALLS: &str = "12";

/// How much of its report a failure shows.
const TAIL_BYTES: usize = 12_000;

fn program() -> Result<Option<std::path::PathBuf>> {
    if let Some(named) = std::env::var_os("AMBIDEX_SCHEMATHESIS_BIN") {
        return Ok(Some(named.into()));
    }
    let installed = binaries::target_dir()?.join("tools/schemathesis/bin/schemathesis");
    if installed.is_file() {
        return Ok(Some(installed));
    }
    Ok(binaries::find_tool("schemathesis"))
}

async fn run(
    folder: &std::path::Path,
    url: &str,
    token: Option<&str>,
    filter: &[&str],
) -> Result<()> {
    let program = program()?.context("checked by the caller")?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(["run", &format!("{url}/api/openapi.json"), "--url", url])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance"])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", CALLS])
        .args(["--generation-deterministic"])
        .args(["--continue-on-failure", "--no-color", "--no-shrink"])
        .args(["--suppress-health-check", "all", "--warnings", "off"])
        .args(["--request-timeout", "30", "--exclude-path-regex", SPARED])
        .args(filter)
        .current_dir(folder)
        .kill_on_drop(true)
        .stdin(Stdio::null());
    if let Some(token) = token {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let output = command.output().await.context("starting schemathesis")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        let start = text.len().saturating_sub(TAIL_BYTES);
        let tail = text
            .get(text.ceil_char_boundary(start)..)
            .unwrap_or_default();
        let complaints = String::from_utf8_lossy(&output.stderr);
        bail!("schemathesis against {url} {filter:?}: {tail}{complaints}");
    }
    Ok(())
}

#[test]
fn fuzzed_calls_are_answered_as_the_schemas_say() {
    flow("schemathesis", |scratch| async move {
        if program()?.is_none() {
            skip("no schemathesis: `cargo xtask test` installs it (Python package schemathesis)");
            return Ok(());
        }
        let world = World::start(&scratch, &["--multi-tenant", "--self-sign-up"]).await?;
        let tenant = world.tenant("alpha", "enterprise").await?;
        let (_, device) = world.device(&tenant, &DeviceKey::new("aa:01")).await?;
        let public = world.server.url();
        let folder = scratch.path();
        run(
            folder,
            &public,
            Some(&tenant.user),
            &["--include-path-regex", "^/api/management/"],
        )
        .await?;
        run(
            folder,
            &public,
            Some(&device),
            &["--include-path-regex", "^/api/devices/"],
        )
        .await?;
        run(folder, &world.server.internal_url(), None, &[]).await?;
        Ok(())
    });
}
