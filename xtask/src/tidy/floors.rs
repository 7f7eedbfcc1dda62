//! Which crate may depend on which, from `cargo metadata`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace;

/// A crate of ours: its folder and the packages it names (development dependencies left out).
#[derive(Debug)]
struct Member {
    folder: String,
    dependencies: Vec<String>,
}

const SERVICES: [&str; 8] = [
    "server/devauth",
    "server/inventory",
    "server/deployments",
    "server/useradm",
    "server/tenantadm",
    "server/auditlogs",
    "server/workflows",
    "server/deviceconnect",
];
const ENGINES: [&str; 3] = ["server/db", "server/blob", "server/bus"];
/// Runtime, network and system: nothing for the protocol crates.
const EFFECTS: [&str; 9] = [
    "tokio",
    "reqwest",
    "hyper",
    "hyper-util",
    "axum",
    "nix",
    "rusqlite",
    "object_store",
    "rustls",
];
/// HTTP: nothing for the engines.
const HTTP: [&str; 4] = ["axum", "hyper", "tower", "http"];

pub fn check() -> Result<Vec<String>> {
    Ok(violations(&members()?))
}

fn members() -> Result<BTreeMap<String, Member>> {
    let output = workspace::cargo()
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .output()
        .context("starting cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    packages.iter().map(member).collect()
}

fn member(package: &Value) -> Result<(String, Member)> {
    let name = package["name"].as_str().context("a package has no name")?;
    let manifest = Path::new(
        package["manifest_path"]
            .as_str()
            .context("a package has no manifest")?,
    );
    let folder = manifest
        .parent()
        .and_then(|folder| folder.strip_prefix(workspace::root()).ok())
        .with_context(|| format!("{name} lies outside the repository"))?;
    let dependencies = package["dependencies"]
        .as_array()
        .context("a package has no list of dependencies")?
        .iter()
        .filter(|dependency| dependency["kind"] != "dev")
        .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
        .collect();
    Ok((
        name.to_owned(),
        Member {
            folder: folder.to_string_lossy().into_owned(),
            dependencies,
        },
    ))
}

fn violations(members: &BTreeMap<String, Member>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, member) in members {
        for dependency in &member.dependencies {
            let target = members.get(dependency).map(|target| target.folder.as_str());
            if let Some(reason) = forbidden(&member.folder, dependency, target) {
                found.push(format!(
                    "{}/Cargo.toml: {name} depends on {dependency}, but {reason}",
                    member.folder
                ));
            }
        }
    }
    found
}

/// Why the crate in `folder` must not name `dependency` (which lies in `target` if it is one of ours).
fn forbidden(folder: &str, dependency: &str, target: Option<&str>) -> Option<&'static str> {
    let ours_outside_protocol = target.is_some_and(|target| !target.starts_with("protocol/"));
    if folder.starts_with("protocol/") {
        if ours_outside_protocol {
            return Some("protocol crates depend on protocol crates only");
        }
        if EFFECTS.contains(&dependency) {
            return Some("protocol crates are pure: no runtime, no network, no files");
        }
    }
    let agent = folder == "agent" || folder.starts_with("agent/");
    let part_of_agent = target.is_some_and(|target| agent && target.starts_with("agent/"));
    if (agent || folder == "cli") && ours_outside_protocol && !part_of_agent {
        return Some("agent and command line tool share nothing but the protocol with the rest");
    }
    if folder.starts_with("update-modules/") && target.is_some() {
        return Some("an update module knows the rest by the protocol of its calls only");
    }
    if ENGINES.contains(&folder) {
        if ours_outside_protocol {
            return Some("the engines know no service");
        }
        if HTTP.contains(&dependency) {
            return Some("the engines know no HTTP");
        }
    }
    if let Some(target) = target {
        let kit = ["server/kit", "server/access", "server/jobs"].contains(&folder);
        if kit && (SERVICES.contains(&target) || target == "server/main") {
            return Some("kit, access and jobs know no service");
        }
        if SERVICES.contains(&folder) && (SERVICES.contains(&target) || target == "server/main") {
            return Some(
                "a service never names another: declare a port, server/main implements it",
            );
        }
        if target.starts_with("tests/") && !folder.starts_with("tests/") {
            return Some("nothing depends on tests");
        }
        if folder == "xtask" {
            return Some("xtask must compile in seconds");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_kept() {
        for (folder, dependency, target) in [
            ("protocol/wire", "tokio", None),
            ("protocol/artifact", "ambidex-kit", Some("server/kit")),
            ("agent", "ambidex-db", Some("server/db")),
            ("agent/platform", "ambidex-db", Some("server/db")),
            ("cli", "ambidex-platform", Some("agent/platform")),
            (
                "update-modules/serial-mcu",
                "ambidex-platform",
                Some("agent/platform"),
            ),
            ("server/db", "axum", None),
            ("server/kit", "ambidex-devauth", Some("server/devauth")),
            (
                "server/devauth",
                "ambidex-inventory",
                Some("server/inventory"),
            ),
            ("server/main", "ambidex-harness", Some("tests/harness")),
        ] {
            assert!(
                forbidden(folder, dependency, target).is_some(),
                "{folder} -> {dependency}"
            );
        }
        for (folder, dependency, target) in [
            ("agent", "ambidex-wire", Some("protocol/wire")),
            ("agent", "tokio", None),
            ("agent", "ambidex-platform", Some("agent/platform")),
            ("server/devauth", "ambidex-kit", Some("server/kit")),
            ("server/main", "ambidex-devauth", Some("server/devauth")),
            ("tests/boards", "ambidex-harness", Some("tests/harness")),
        ] {
            assert_eq!(
                forbidden(folder, dependency, target),
                None,
                "{folder} -> {dependency}"
            );
        }
    }
}
