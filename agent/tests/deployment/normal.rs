//! Deployments without a fault.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ambidex_artifact::Payload;

use crate::{
    COMMIT, DOWN, INSTALL, REBOOT, s,
    support::{Device, answer},
    trial::{Offer, Trial},
};

#[tokio::test]
async fn s1_and_s4_with_a_reboot_by_the_module() {
    let mut trial = Trial::new("Yes", "").await;
    trial.run().await;
    trial.check(
        &s(&[DOWN, INSTALL, REBOOT, COMMIT]),
        "downloading installing rebooting installing success",
        "new",
    );
    assert_eq!(trial.store().provides()["rootfs-image.mod.version"], "2");
    assert!(!trial.tree().exists());
    assert!(trial.uploaded_log().is_none(), "no log after a success");
    assert_eq!(trial.lives, 1);
}

#[tokio::test]
async fn m7_with_a_reboot_by_the_agent() {
    let mut trial = Trial::new("Automatic", "").await;
    let command = trial.device.path("lab/reboot");
    let config = std::fs::read_to_string(trial.device.path("conf/agent.toml")).unwrap();
    trial.device.write(
        "conf/agent.toml",
        &format!("reboot_command = [{command:?}]\n{config}"),
    );
    trial.run().await;
    let chain = s(&[
        DOWN,
        INSTALL,
        "Reboot_Enter reboot VerifyReboot Reboot_Leave",
        COMMIT,
    ]);
    trial.check(
        &chain,
        "downloading installing rebooting installing success",
        "new",
    );
    assert_eq!(trial.lives, 2);
}

#[tokio::test]
async fn s2_without_a_reboot() {
    for answer in ["No", ""] {
        let mut trial = Trial::new(answer, "").await;
        trial.run().await;
        trial.check(
            &s(&[DOWN, INSTALL, COMMIT]),
            "downloading installing installing success",
            "new",
        );
    }
}

#[tokio::test]
async fn s3_without_a_payload() {
    let offer = Offer {
        payload: Payload::Empty,
        ..Offer::default()
    };
    let mut trial = Trial::offering(&offer, "", "", |_, _| None).await;
    trial.run().await;
    trial.check(
        "Download_Enter Download_Leave",
        "downloading success",
        "new",
    );
}

#[tokio::test]
async fn s15_answers_before_the_commit_do_not_matter() {
    let mut trial = Trial::offering(&Offer::default(), "Yes", "", |ordinal, _| {
        (ordinal < 3).then(|| answer(500, "{}"))
    })
    .await;
    trial.run().await;
    trial.check(
        &s(&[DOWN, INSTALL, REBOOT, COMMIT]),
        "downloading installing rebooting installing success",
        "new",
    );
}

#[tokio::test]
async fn s16_the_result_is_told_until_it_is_taken() {
    let mut trial = Trial::offering(&Offer::default(), "No", "", |ordinal, status| {
        (status == "success" && ordinal < 7).then(|| answer(500, "{}"))
    })
    .await;
    trial.run().await;
    let statuses = "downloading installing installing success success success success success";
    trial.check(&s(&[DOWN, INSTALL, COMMIT]), statuses, "new");
}

#[tokio::test]
async fn s16_the_result_survives_restarts_and_the_deployment_is_not_repeated() {
    // The server refuses for longer than the agent insists, and still when the power goes.
    let refusing = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&refusing);
    let mut trial = Trial::offering(
        &Offer::default(),
        "No",
        "retry_poll_count = 2",
        move |_, status| {
            (status == "success" && asked.load(Ordering::SeqCst)).then(|| answer(503, "{}"))
        },
    )
    .await;
    trial
        .until(|trial| trial.statuses().matches("success").count() >= 3)
        .await;
    trial.kill();
    assert_eq!(trial.store().reports().len(), 1, "kept on disk");
    refusing.store(false, Ordering::SeqCst);
    trial.run().await;
    assert_eq!(trial.trace(), s(&[DOWN, INSTALL, COMMIT]), "installed once");
    assert_eq!(trial.name(), "new");
}

#[tokio::test]
async fn s18_the_inventory_is_sent_again_with_the_new_name() {
    let mut trial = Trial::new("No", "").await;
    trial.run().await;
    trial.start();
    let server = &trial.server;
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let last = server
            .requests_to("/attributes")
            .last()
            .map(|request| request.json().to_string());
        if last.is_some_and(|text| text.contains(r#""new""#)) {
            break;
        }
        assert!(std::time::Instant::now() < limit, "{}", trial.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn p3_the_poll_tells_everything_the_device_provides() {
    let mut trial = Trial::new("No", "").await;
    trial.run().await;
    trial.start();
    let polled = |trial: &Trial| {
        trial
            .server
            .requests_to("/deployments/next")
            .last()
            .map(|request| request.json()["device_provides"].clone())
    };
    trial
        .until(|trial| polled(trial).is_some_and(|provides| provides["artifact_name"] == "new"))
        .await;
    let provides = polled(&trial).unwrap();
    assert_eq!(provides["device_type"], "test-board");
    assert_eq!(provides["rootfs-image.mod.version"], "2");
}

#[tokio::test]
async fn f6_provides_and_clears() {
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    for (clears, expected) in [
        (
            Some(vec!["a.*".to_owned()]),
            text(&[("artifact_name", "new"), ("a.new", "1"), ("b.kept", "1")]),
        ),
        (None, text(&[("artifact_name", "new"), ("a.new", "1")])),
    ] {
        let offer = Offer {
            provides: text(&[("a.new", "1")]),
            clears,
            ..Offer::default()
        };
        let mut trial = Trial::offering(&offer, "No", "", |_, _| None).await;
        let mut store = trial.store();
        let facts = ambidex_machine::Facts {
            artifact_name: "old".into(),
            provides: Some(text(&[("a.old", "1"), ("b.kept", "1")])),
            ..ambidex_machine::Facts::default()
        };
        store.initialise(Some(&facts)).unwrap();
        drop(store);
        trial.run().await;
        assert_eq!(trial.store().provides(), &expected);
    }
}

#[tokio::test]
async fn f7_the_bootstrap_artifact_names_the_device_once() {
    let offer = Offer {
        payload: Payload::Empty,
        ..Offer::default()
    };
    let server = crate::support::Server::friendly(|_| None).await;
    let device = Device::new(&[&server.url], "");
    let path = device.path("state/bootstrap.mender");
    std::fs::write(&path, offer.artifact("/nowhere")).unwrap();
    let agent = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ambidex-agent"))
            .args(args)
            .env("AMBIDEX_CONF_DIR", device.path("conf"))
            .env("AMBIDEX_DATA_DIR", device.path("data"))
            .env("AMBIDEX_STATE_DIR", device.path("state"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(agent(&["show-artifact"]).trim(), "new");
    assert!(!path.exists());
    assert!(agent(&["show-provides"]).contains("rootfs-image.mod.version=2"));
    std::fs::write(&path, b"junk").unwrap();
    assert_eq!(agent(&["show-artifact"]).trim(), "new");
    assert!(!path.exists(), "deleted although it was not needed");
}
