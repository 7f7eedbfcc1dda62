//! `ambidex terminal` and `session`.

use std::fs;

use ambidex_harness::{flow, wait_for};
use ambidex_test_compat::Manner;
use anyhow::ensure;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::desk::{AwaitSeen as _, Desk, LIMIT, MAC, signal};

#[test]
fn a_terminal_works_and_its_recording_is_found_again() {
    flow("cli-terminal", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        let (mut pty, terminal, mut child) = desk.in_terminal(&["terminal", MAC])?;
        pty.wait_to_see("Ctrl-] ends the session", LIMIT).await?;
        pty.type_in(b"echo I am $((40 + 2))\r")
            .await_seen(&mut pty, "I am 42")
            .await?;
        ensure!(!pty.at_rest()?, "keys are not passed on as they are");
        pty.type_in(b"stty size\r")
            .await_seen(&mut pty, "30 100")
            .await?;
        pty.resize((132, 50))?;
        // The new size travels on its own; ask until it is there.
        pty.type_in(
            b"until [ \"$(stty size)\" = '50 132' ]; do sleep 0.05; done; echo re''sized\r",
        )
        .await_seen(&mut pty, "resized")
        .await?;
        // Pings of the device are answered while nothing else happens.
        let before = desk.device.ping();
        wait_for("the answer to the device's ping", LIMIT, async || {
            Ok((desk.device.ping() > before).then_some(()))
        })
        .await?;
        // Ctrl-C goes to the shell.
        pty.type_in(b"sleep 1000\r")
            .await_seen(&mut pty, "sleep 1000\r\n")
            .await?;
        pty.type_in(b"\x03").await_seen(&mut pty, "$ ").await?;
        pty.type_in(b"echo still he''re\r")
            .await_seen(&mut pty, "still here")
            .await?;
        // Modes that are left on are switched off.
        pty.type_in(b"printf '\\033[?25l'\r")
            .await_seen(&mut pty, "\x1b[?25l")
            .await?;
        pty.type_in(b"\x1d")
            .await_seen(&mut pty, "\x1b[?25h")
            .await?;
        pty.wait_to_see("You have left", LIMIT).await?;
        ensure!(pty.exit_code(&mut child, LIMIT).await? == Some(0));
        ensure!(pty.at_rest()?, "the terminal was not restored");
        drop(terminal);

        let list = ["session", "list", "--device", MAC, "--output", "json"];
        let session = wait_for("the recording", LIMIT, async || {
            let list: Value = serde_json::from_str(&desk.must(&list).await?)?;
            let ended = list[0]["ended_ts"].is_string();
            Ok(ended.then(|| list[0]["id"].as_str().unwrap_or_default().to_owned()))
        })
        .await?;
        let table = desk.must(&["session", "list"]).await?;
        ensure!(
            table.contains(&session) && table.contains("BEGUN"),
            "{table}"
        );
        let cast = desk.home.join("night.cast");
        desk.must(&["session", "export", &session, "-o", "night.cast"])
            .await?;
        let cast = fs::read_to_string(cast)?;
        let head: Value = serde_json::from_str(cast.lines().next().unwrap_or_default())?;
        ensure!(head["version"] == 2 && cast.contains("I am 42"), "{cast}");
        ensure!(desk.must(&["session", "export", &session]).await? == cast);
        let play = [
            "session",
            "play",
            &session,
            "--speed",
            "100",
            "--max-idle",
            "0",
        ];
        let played = desk.must(&play).await?;
        ensure!(played.contains("I am 42"), "{played}");
        desk.fails(
            1,
            &["session", "play", "00000000-0000-4000-8000-000000000000"],
        )
        .await?;
        Ok(())
    });
}

#[test]
fn the_end_of_the_shell_ends_the_terminal() {
    for manner in [Manner::Ours, Manner::Reference] {
        flow("cli-terminal-exit", async |scratch| {
            let desk = Desk::start(&scratch, manner).await?;
            let (mut pty, _terminal, mut child) =
                desk.in_terminal(&["terminal", &desk.device.id])?;
            pty.wait_to_see("Ctrl-]", LIMIT).await?;
            pty.type_in(b"exit\r")
                .await_seen(&mut pty, "has ended")
                .await?;
            ensure!(pty.exit_code(&mut child, LIMIT).await? == Some(0));
            ensure!(pty.at_rest()?);
            Ok(())
        });
    }
}

#[test]
fn a_terminal_is_restored_whatever_ends_it() {
    flow("cli-terminal-ends", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        for ending in [
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGINT,
        ] {
            let (mut pty, _terminal, mut child) = desk.in_terminal(&["terminal", MAC])?;
            pty.wait_to_see("Ctrl-]", LIMIT).await?;
            pty.type_in(b"echo rea''dy\r")
                .await_seen(&mut pty, "ready")
                .await?;
            signal(&child, ending)?;
            let code = pty.exit_code(&mut child, LIMIT).await?;
            ensure!(code == Some(1), "{ending}: {code:?}");
            ensure!(pty.at_rest()?, "{ending}: the terminal was not restored");
        }
        // The device goes.
        let (mut pty, _terminal, mut child) = desk.in_terminal(&["terminal", MAC])?;
        pty.wait_to_see("Ctrl-]", LIMIT).await?;
        pty.type_in(b"echo rea''dy\r")
            .await_seen(&mut pty, "ready")
            .await?;
        desk.device.break_now();
        pty.wait_to_see("disconnected", LIMIT).await?;
        ensure!(pty.exit_code(&mut child, LIMIT).await? == Some(1));
        ensure!(pty.at_rest()?);
        Ok(())
    });
}

#[test]
fn commands_come_from_a_pipe() {
    for manner in [Manner::Ours, Manner::Reference] {
        flow("cli-terminal-pipe", async |scratch| {
            let desk = Desk::start(&scratch, manner).await?;
            let terminal = ["terminal", "02:00:00:00:0c"];
            for input in [
                "echo $((40 + 2)); exit\n",
                "echo $((40 + 2))\n",
                "echo $((40 + 2))",
            ] {
                let output = desk.fed(&terminal, input.as_bytes()).await?;
                let shown = String::from_utf8_lossy(&output.stdout).into_owned();
                ensure!(output.status.success(), "{input:?}: {output:?}");
                ensure!(shown.contains("42"), "{input:?}: {shown}");
                ensure!(output.stderr.is_empty(), "{output:?}");
            }
            // A program that reads to the end of its input is ended first, then the shell.
            let output = desk.fed(&terminal, b"cat\nme too\n").await?;
            ensure!(output.status.success(), "{output:?}");
            // More than the device reads in one message, and than it takes while it writes.
            let lines = "echo $((40 + 2))\n".repeat(4000);
            let output = desk.fed(&terminal, lines.as_bytes()).await?;
            let shown = String::from_utf8_lossy(&output.stdout);
            let count = shown.matches("42").count();
            ensure!(output.status.success() && count == 4000, "{count} lines");
            Ok(())
        });
    }
}
