//! What a restart finds, and how it goes on.

use ambidex_machine::{
    Adoption, Call, Effect, Event, Facts, Found, Gate, HELD_RESTARTS_MAX, Insistence, Phase,
    Reboot, Record, STALLS_MAX, Step, recover, step,
};
use ambidex_wire::deployments::DeviceStatus;

use crate::{Case, found_with, play};

/// R6 where the download has a checkpoint.
#[test]
fn a_download_with_a_checkpoint_goes_on() {
    let down = "Download_Enter Download Download_Leave";
    let rest = "Install_Enter Install Install_Leave Commit_Enter Commit Commit_Leave Cleanup";
    let killed = Case {
        kill: &["Download"],
        checkpoint: Some(0),
        ..Case::default()
    };
    let outcome = play(&killed);
    assert_eq!(
        outcome.chain,
        format!("Download_Enter Download Cleanup {down} {rest}")
    );
    assert_eq!(
        outcome.statuses,
        "downloading downloading installing installing success"
    );
    // aborted on the server meanwhile
    let aborted = Case {
        abort_at: Some(1),
        ..killed
    };
    let outcome = play(&aborted);
    assert_eq!(outcome.chain, "Download_Enter Download Cleanup");
    assert_eq!(outcome.statuses, "downloading downloading failure");
    // without headway not for ever
    let stuck = Case {
        kill: &["Download*"],
        checkpoint: Some(7),
        ..Case::default()
    };
    let outcome = play(&stuck);
    assert!(outcome.chain.ends_with("Download Cleanup"));
    assert!(outcome.statuses.ends_with("downloading failure"));
    assert_eq!(outcome.adoption, Adoption::Keep);
    let lives = outcome.statuses.matches("downloading").count();
    assert_eq!(lives, usize::try_from(STALLS_MAX).unwrap_or(0) + 1);
}

/// Holds may be long and see many restarts, but not without end.
#[test]
fn a_hold_does_not_count_as_a_loop() {
    let mut record = Record::new("d", "u");
    record.step = Step::HoldInstall;
    for _ in 1..HELD_RESTARTS_MAX {
        let (recovered, effects) = recover(record, &Found::default());
        assert_eq!(effects, [Effect::Save, Effect::Hold(Gate::Install)]);
        record = recovered;
    }
    assert_eq!(record.saves, 0);
    let (_, effects) = recover(record, &Found::default());
    assert!(
        matches!(effects.as_slice(), [Effect::Conclude(_)]),
        "{effects:?}"
    );
}

/// Only the agent's death leaves the hold before a reboot as it was; a boot of the system is that reboot.
#[test]
fn a_boot_ends_the_hold_before_the_reboot() {
    let boot = |name: &str| Found {
        checkpoint: None,
        boot: Some(name.into()),
    };
    let mut record = Record::new("d", "u");
    record.step = Step::HoldReboot;
    record.reboot = Reboot::Automatic;
    record.boot = Some("one".into());
    let (record, effects) = recover(record, &boot("one"));
    assert_eq!(effects, [Effect::Save, Effect::Hold(Gate::Reboot)]);
    let (_, effects) = recover(record, &boot("two"));
    assert_eq!(effects, [Effect::Save, Effect::Call(Call::VerifyReboot)]);
}

/// As long as there is headway a download may be interrupted any number of times.
#[test]
fn headway_ends_the_count_of_restarts() {
    let mut record = Record::new("d", "u");
    record.step = Step::Stream;
    for offset in 0..1000 {
        let (recovered, effects) = recover(record, &found_with(Some(offset)));
        let report = Effect::Report(DeviceStatus::Downloading, Insistence::UntilAccepted);
        assert_eq!(effects, [Effect::Save, report]);
        record = recovered;
    }
}

#[test]
fn a_clean_stop_resumes() {
    let mut record = Record::new("d", "u");
    record.step = Step::Stream;
    record.facts = Some(Facts {
        payload_type: Some("mod".into()),
        ..Facts::default()
    });
    let (stopped, effects) = step(record, Event::Stopped);
    assert!(stopped.stopped);
    assert_eq!(effects, [Effect::Save]);
    let (discarding, effects) = recover(stopped, &Found::default());
    assert_eq!(effects, [Effect::Save, Effect::Call(Call::Cleanup)]);
    let (_, effects) = step(discarding, Event::Done);
    assert_eq!(effects, [Effect::Forget], "the server offers it again");

    let mut record = Record::new("d", "u");
    record.step = Step::ReportCommitting;
    record.reboot = Reboot::Automatic;
    let (stopped, _) = step(record, Event::Stopped);
    let (_, effects) = recover(stopped, &Found::default());
    assert_eq!(effects, [Effect::Save, Effect::Call(Call::VerifyReboot)]);
}

#[test]
fn every_step_survives_the_disk_and_can_be_recovered() {
    for at in Step::ALL {
        let mut record = Record::new("d", "u");
        record.step = at;
        record.facts = Some(Facts {
            artifact_name: "n".into(),
            payload_type: Some("t".into()),
            ..Facts::default()
        });
        let text = serde_json::to_string(&record).unwrap_or_default();
        let back: Record =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{at:?}: {error}"));
        assert_eq!(back, record);
        let (_, effects) = recover(back, &Found::default());
        assert!(
            effects.last().is_some_and(|effect| !effect.is_silent()),
            "{at:?} recovers to nothing: {effects:?}"
        );
    }
}

#[test]
fn a_record_of_another_version_rolls_back() {
    let text = r#"{"deployment_id":"d","uri":"u","step":"quantum_leap","new_field":3,
        "facts":{"artifact_name":"n","payload_type":"t"}}"#;
    let record: Record = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(record.step.phase(), Phase::Unknown);
    let (_, effects) = recover(record, &Found::default());
    assert_eq!(effects, [Effect::Save, Effect::AskRollback]);
}
