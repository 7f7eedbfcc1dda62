//! The stock module `script`.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod support;

use ambidex_install::{Handler, Reboot};
use support::stock::{Moment, Stock, deployment, give_up};

/// Programs that note in a file what they do; their names are their numbers.
struct Lab {
    stock: Stock,
}

impl Lab {
    fn new() -> Self {
        Self {
            stock: Stock::new("script"),
        }
    }

    /// A program that notes `word`, and what follows.
    fn program(&self, word: &str, rest: &str) -> String {
        let notes = self.stock.device.path("notes");
        format!("#!/bin/sh\necho {word} >> {}\n{rest}\n", notes.display())
    }

    async fn fetch(&self, files: &[(&str, String)]) -> Handler {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (*name, text.as_bytes()))
            .collect();
        self.stock.fetch(&files).await
    }

    fn notes(&self) -> String {
        let path = self.stock.device.path("notes");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[tokio::test]
async fn steps_run_in_order_and_back_in_reverse() {
    let lab = Lab::new();
    let files = [
        ("10-first", lab.program("first", "")),
        ("10-first.rollback", lab.program("undo-first", "")),
        ("20-second", lab.program("second", "")),
        ("20-second.rollback", lab.program("undo-second", "")),
        ("rollback", lab.program("undo-all", "")),
    ];
    let handler = lab.fetch(&files).await;
    assert!(handler.supports_rollback().await.unwrap());
    handler.rollback().await.unwrap(); // before anything was done
    assert_eq!(lab.notes(), "");
    handler.install().await.unwrap();
    handler.install().await.unwrap();
    assert_eq!(lab.notes(), "first second");
    assert_eq!(handler.needs_reboot().await.unwrap(), Reboot::No);
    handler.rollback().await.unwrap();
    give_up(&lab.stock, &handler).await;
    assert_eq!(lab.notes(), "undo-second undo-first undo-all");
}

#[tokio::test]
async fn a_step_that_fails_stops_the_rest_and_only_what_started_is_undone() {
    let lab = Lab::new();
    let files = [
        ("1", lab.program("1", "")),
        ("1.rollback", lab.program("u1", "")),
        ("2", lab.program("2", "exit 3")),
        ("2.rollback", lab.program("u2", "")),
        ("3", lab.program("3", "")),
    ];
    let handler = lab.fetch(&files).await;
    assert!(handler.install().await.is_err());
    assert!(
        lab.stock.log().contains("step '2' ended with code 3"),
        "{}",
        lab.stock.log()
    );
    // the third has no rollback, but it did not run
    give_up(&lab.stock, &handler).await;
    assert_eq!(lab.notes(), "1 2 u2 u1");
}

#[tokio::test]
async fn without_a_rollback_for_every_step_there_is_none() {
    let lab = Lab::new();
    let files = [
        ("1", lab.program("1", "")),
        ("2", lab.program("2", "")),
        ("2.rollback", lab.program("u2", "")),
    ];
    let handler = lab.fetch(&files).await;
    handler.install().await.unwrap();
    assert!(!handler.supports_rollback().await.unwrap());
    assert!(handler.rollback().await.is_err());
    assert_eq!(lab.notes(), "1 2");
    handler.cleanup().await.unwrap();

    let handler = lab.fetch(&[("rollback", lab.program("u", ""))]).await;
    assert!(handler.install().await.is_err(), "nothing to run");
}

#[tokio::test]
async fn a_step_may_ask_for_a_restart() {
    let lab = Lab::new();
    let handler = lab
        .fetch(&[("1", lab.program("1", ": > tmp/reboot"))])
        .await;
    handler.install().await.unwrap();
    assert_eq!(handler.needs_reboot().await.unwrap(), Reboot::Automatic);
}

#[tokio::test]
async fn a_power_cut_repeats_no_step_but_the_one_it_hit() {
    let lab = Lab::new();
    let files = [
        ("1", lab.program("1", "")),
        ("1.rollback", lab.program("u1", "")),
        ("2", lab.program("2", "")),
        ("2.rollback", lab.program("u2", "")),
    ];
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (*name, text.as_bytes()))
        .collect();
    for moment in [Moment::Install, Moment::Rollback] {
        for at in 1.. {
            let (cut, _) = deployment(&lab.stock, &files, moment, at).await;
            let notes = lab.notes();
            let fine = match moment {
                Moment::Install => {
                    ["", "u1", "1 u1", "1 u2 u1", "1 2 u2 u1", "1 2"].contains(&notes.as_str())
                }
                _ => ["1 2 u2 u1", "1 2 u2 u2 u1", "1 2 u2 u1 u1"].contains(&notes.as_str()),
            };
            assert!(fine, "{moment:?} {at}: {notes}");
            if !cut {
                assert!(at > 4, "{moment:?} has no command to cut at");
                break;
            }
        }
    }
    // the call itself again, as after a restart of the agent
    for at in 1.. {
        let handler = lab.stock.fetch(&files).await;
        lab.stock.cut_at(Some(at));
        let cut = handler.install().await.is_err();
        lab.stock.cut_at(None);
        handler.install().await.unwrap();
        handler.cleanup().await.unwrap();
        let notes = lab.notes();
        assert!(
            ["1 2", "1 1 2", "1 2 2"].contains(&notes.as_str()),
            "{at}: {notes}"
        );
        if !cut {
            break;
        }
    }
}

#[tokio::test]
async fn busybox_runs_it() {
    let lab = Lab::new();
    let Some(stock) = lab.stock.with_busybox() else {
        return;
    };
    let lab = Lab { stock };
    let files = [
        ("1", lab.program("1", "")),
        ("1.rollback", lab.program("u1", "")),
    ];
    let handler = lab.fetch(&files).await;
    handler.install().await.unwrap();
    give_up(&lab.stock, &handler).await;
    assert_eq!(lab.notes(), "1 u1");
}
