//! `ambidex cp` that goes on where it was cut: our command line, our server, our agent.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use ambidex_harness::proxy::Fault;
use ambidex_harness::{Proxy, Scratch, flow, wait_for};
use ambidex_test_compat::{Agent, Manner};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::Child;
use tokio::time::timeout;

use crate::desk::{Desk, LIMIT, content, entries, signal};

const SIZE: usize = 8 << 20;
/// Where the connection is cut.
const CUT: u64 = 4 << 20;
/// More than what is lost of what was under way.
const LOST: u64 = 3 << 20;

/// A file that is copied, and where it goes.
struct Copy {
    from: String,
    to: String,
    source: PathBuf,
    target: PathBuf,
    data: Vec<u8>,
}

impl Copy {
    fn new(desk: &Desk<Agent>, scratch: &Scratch, up: bool) -> Result<Self> {
        let name = if up { "up" } else { "down" };
        let place = scratch.join(name);
        fs::create_dir(&place)?;
        let (source, target) = (scratch.join(&format!("{name}.source")), place.join("f"));
        let data = content(SIZE);
        fs::write(&source, &data)?;
        let here = |path: &Path| path.to_string_lossy().into_owned();
        let (from, to) = if up {
            (here(&source), desk.there(&target))
        } else {
            (desk.there(&source), here(&target))
        };
        Ok(Self {
            from,
            to,
            source,
            target,
            data,
        })
    }

    fn both(desk: &Desk<Agent>, scratch: &Scratch) -> Result<[Self; 2]> {
        Ok([
            Self::new(desk, scratch, true)?,
            Self::new(desk, scratch, false)?,
        ])
    }

    fn arguments<'a>(&'a self, options: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["cp", "--output", "json", &self.from, &self.to];
        arguments.extend(options);
        arguments
    }

    fn place(&self) -> &Path {
        self.target.parent().unwrap_or(Path::new("/"))
    }

    /// The one other file beside the target.
    fn unfinished(&self) -> Result<PathBuf> {
        let names = entries(self.place())?;
        let hidden: Vec<&String> = names
            .iter()
            .filter(|name| name.contains(".ambidex-"))
            .collect();
        ensure!(hidden.len() == 1, "{names:?}");
        Ok(self.place().join(hidden[0]))
    }

    fn is_complete(&self) -> Result<()> {
        ensure!(fs::read(&self.target)? == self.data, "another content");
        ensure!(entries(self.place())? == ["f"], "something was left");
        Ok(())
    }
}

/// What was said of success.
fn resumed_at(output: &Output) -> Result<u64> {
    ensure!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(told["bytes"] == SIZE, "{told}");
    told["resumed_at"].as_u64().context("resumed_at")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Cuts one try in the middle, and leaves it at that.
async fn interrupted(desk: &Desk<Agent>, proxy: &Proxy, copy: &Copy) -> Result<()> {
    proxy.cut_after(CUT);
    let options = ["--resume", "--retries", "0"];
    desk.fails(1, &copy.arguments(&options)).await?;
    ensure!(!copy.target.exists(), "half a file has the name");
    let left = fs::metadata(copy.unfinished()?)?;
    ensure!(left.len() > 0 && left.mode() & 0o777 == 0o600);
    Ok(())
}

/// Runs as soon as the device is back after its connection was cut.
async fn back<D>(desk: &Desk<D>, arguments: &[&str]) -> Result<Output> {
    wait_for("the device to be back", LIMIT, async || {
        let output = desk.run(arguments).await?;
        let away = said(&output).contains("device not connected");
        Ok((!away).then_some(output))
    })
    .await
}

#[test]
fn a_cut_connection_costs_only_what_was_under_way() {
    flow("cli-cp-goes-on", async |scratch| {
        let (desk, proxy) = Desk::behind_proxy(&scratch).await?;
        for copy in Copy::both(&desk, &scratch)? {
            let before = proxy.bytes_down();
            proxy.cut_after(CUT);
            let output = desk.run(&copy.arguments(&[])).await?;
            let began = resumed_at(&output).with_context(|| said(&output))?;
            ensure!(began > CUT - LOST, "it went on at {began} only");
            ensure!(said(&output).contains("going on after"), "{output:?}");
            let moved = proxy.bytes_down() - before;
            ensure!(moved < SIZE as u64 + LOST, "{moved} bytes were sent");
            copy.is_complete()?;
        }
        Ok(())
    });
}

#[test]
fn a_later_call_goes_on() {
    flow("cli-cp-resume", async |scratch| {
        let (desk, proxy) = Desk::behind_proxy(&scratch).await?;
        for copy in Copy::both(&desk, &scratch)? {
            interrupted(&desk, &proxy, &copy).await?;
            let output = back(&desk, &copy.arguments(&["--resume", "--verify"])).await?;
            let began = resumed_at(&output).with_context(|| said(&output))?;
            ensure!(began > CUT - LOST, "it went on at {began} only");
            copy.is_complete()?;
            fs::remove_file(&copy.target)?;
        }
        Ok(())
    });
}

#[test]
fn what_is_not_the_same_any_more_begins_again() {
    flow("cli-cp-changed", async |scratch| {
        let (desk, proxy) = Desk::behind_proxy(&scratch).await?;
        for mut copy in Copy::both(&desk, &scratch)? {
            interrupted(&desk, &proxy, &copy).await?;
            // the source was changed
            copy.data[17] ^= 1;
            fs::write(&copy.source, &copy.data)?;
            let output = back(&desk, &copy.arguments(&["--resume"])).await?;
            ensure!(resumed_at(&output)? == 0, "{output:?}");
            ensure!(fs::read(&copy.target)? == copy.data, "a mixture");
            fs::remove_file(&copy.target)?;

            // what was received was changed
            interrupted_anew(&desk, &proxy, &mut copy).await?;
            let unfinished = copy.unfinished()?;
            let mut there = fs::read(&unfinished)?;
            there[18] ^= 1;
            fs::write(&unfinished, there)?;
            let output = back(&desk, &copy.arguments(&["--resume"])).await?;
            ensure!(resumed_at(&output)? == 0, "{output:?}");
            ensure!(said(&output).is_empty() || said(&output).contains("beginning again"));
            copy.is_complete()?;
        }
        Ok(())
    });
}

/// Where something unfinished of another content lies there already.
async fn interrupted_anew(desk: &Desk<Agent>, proxy: &Proxy, copy: &mut Copy) -> Result<()> {
    for name in entries(copy.place())? {
        fs::remove_file(copy.place().join(name))?;
    }
    interrupted(desk, proxy, copy).await
}

/// Starts a copy that takes its time, and waits until it is under way.
async fn slow(desk: &Desk<Agent>, proxy: &Proxy, copy: &Copy, options: &[&str]) -> Result<Child> {
    let bytes_per_second = 1 << 20;
    proxy.set(Fault::Slow { bytes_per_second });
    let child = desk
        .command(&copy.arguments(options))?
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    wait_for("the copy to be under way", LIMIT, async || {
        let mut files = fs::read_dir(copy.place())?.filter_map(Result::ok);
        let grows = files.any(|file| file.metadata().is_ok_and(|meta| meta.len() > 1 << 20));
        Ok(grows.then_some(()))
    })
    .await?;
    Ok(child)
}

#[test]
fn ctrl_c_keeps_what_was_wanted_and_nothing_else() {
    flow("cli-cp-ctrl-c", async |scratch| {
        let (desk, proxy) = Desk::behind_proxy(&scratch).await?;
        for copy in Copy::both(&desk, &scratch)? {
            for resume in [false, true] {
                let options: &[&str] = if resume { &["--resume"] } else { &[] };
                let child = slow(&desk, &proxy, &copy, options).await?;
                signal(&child, Signal::SIGINT)?;
                let output = timeout(LIMIT, child.wait_with_output()).await??;
                ensure!(output.status.code() == Some(1), "{output:?}");
                ensure!(said(&output).contains("interrupted"), "{output:?}");
                ensure!(!copy.target.exists());
                proxy.set(Fault::None);
                if resume {
                    copy.unfinished()?;
                    let output = desk.run(&copy.arguments(options)).await?;
                    ensure!(resumed_at(&output)? > 0, "{output:?}");
                    copy.is_complete()?;
                } else {
                    wait_for("nothing to be left", LIMIT, async || {
                        Ok(entries(copy.place())?.is_empty().then_some(()))
                    })
                    .await?;
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_copy_survives_the_end_of_the_agent_and_of_the_server() {
    flow("cli-cp-ends", async |scratch| {
        let (mut desk, proxy) = Desk::behind_proxy(&scratch).await?;
        for copy in Copy::both(&desk, &scratch)? {
            for server in [false, true] {
                let child = slow(&desk, &proxy, &copy, &[]).await?;
                if server {
                    desk.server.restart().await?;
                } else {
                    desk.device.kill().await?;
                    desk.device.start_again()?;
                }
                proxy.set(Fault::None);
                let output = timeout(LIMIT, child.wait_with_output()).await??;
                let began = resumed_at(&output).with_context(|| desk.device.log())?;
                ensure!(began > 0, "{output:?}");
                copy.is_complete()?;
                fs::remove_file(&copy.target)?;
            }
        }
        Ok(())
    });
}

#[test]
fn devices_of_another_maker_begin_again() {
    flow("cli-cp-reference", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Reference).await?;
        let source = scratch.join("source");
        fs::write(&source, content(3_000_001))?;
        let (from, place) = (desk.there(&source), scratch.join("place"));
        fs::create_dir(&place)?;
        let to = place.join("f").to_string_lossy().into_owned();
        let arguments = ["cp", "--resume", &from, &to];
        desk.device.break_in_files(1);
        desk.fails(1, &[&arguments[..], &["--retries", "0"]].concat())
            .await?;
        ensure!(entries(&place)? == ["f.ambidex-part"]);
        let output = back(&desk, &arguments).await?;
        let told = said(&output);
        ensure!(
            output.status.success() && told.contains("cannot go on in the middle"),
            "{told}"
        );
        ensure!(fs::read(&to)? == content(3_000_001) && entries(&place)? == ["f"]);
        let told = desk.fails(2, &["cp", "--resume", &from, "-"]).await?;
        ensure!(told.contains("--resume"), "{told}");
        Ok(())
    });
}
