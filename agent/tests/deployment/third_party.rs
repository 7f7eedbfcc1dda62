//! Row M10 through the whole agent: the reference's own module `single-file` installs, and goes back.

use std::path::{Path, PathBuf};

use ambidex_artifact::Payload;

use crate::trial::{Offer, Trial};

/// A device that has the module as Debian's package `mender-client` brings it, the file it replaces, and the trial.
async fn trial() -> Option<(Trial, PathBuf)> {
    let module = Path::new("/usr/share/mender/modules/v3/single-file");
    if !module.exists() {
        ambidex_harness::skip("the reference's modules are missing (Debian package mender-client)");
        return None;
    }
    let dest = tempfile::tempdir().unwrap().keep();
    let files = vec![
        ("dest_dir", dest.to_str().unwrap().as_bytes().to_vec()),
        ("filename", b"motd".to_vec()),
        ("permissions", b"600".to_vec()),
        ("motd", b"new".to_vec()),
    ];
    let offer = Offer {
        payload: Payload::Module("single-file".into()),
        files,
        ..Offer::default()
    };
    let trial = Trial::offering(&offer, "", "", |_, _| None).await;
    std::fs::copy(module, trial.device.path("data/modules/v3/single-file")).unwrap();
    std::fs::write(dest.join("motd"), "old").unwrap();
    Some((trial, dest))
}

fn content(dest: &Path) -> String {
    std::fs::read_to_string(dest.join("motd")).unwrap()
}

#[tokio::test]
async fn m10_a_module_of_the_reference_installs() {
    let Some((mut trial, dest)) = trial().await else {
        return;
    };
    trial.run().await;
    assert_eq!(
        trial.statuses(),
        "downloading installing installing success",
        "{}",
        trial.log()
    );
    assert_eq!(
        (content(&dest).as_str(), trial.name().as_str()),
        ("new", "new")
    );
    assert!(!trial.tree().exists());
    std::fs::remove_dir_all(dest).unwrap();
}

#[tokio::test]
async fn m10_a_module_of_the_reference_goes_back() {
    let Some((mut trial, dest)) = trial().await else {
        return;
    };
    trial.tell("fail", &["ArtifactCommit_Enter"]);
    trial.run().await;
    assert_eq!(
        trial.statuses(),
        "downloading installing installing failure",
        "{}",
        trial.log()
    );
    assert_eq!(
        (content(&dest), trial.name()),
        ("old".to_owned(), "unknown".to_owned())
    );
    assert!(!trial.tree().exists());
    std::fs::remove_dir_all(dest).unwrap();
}
