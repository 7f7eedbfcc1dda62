//! The durable records of the agent: its state, and the checkpoint of a download.
//!
//! - Whatever stands in the state directory, the agent starts; starting twice is the same as once.
//! - Of two records the newer one counts; a damaged one leaves the other.
//! - The record of a deployment, whatever it says, leads to an end after a restart.
//! - What is saved afterwards is what the next start finds.
//! - Of a download only bytes are taken up that the checkpoint answers for.

use std::io::Read as _;
use std::path::Path;

use ambidex_agent::deployment::{Store, store::StoreError};
use ambidex_machine::{Adoption, Effect, Event, Facts, Found, Insistence, Reboot, Record};
use ambidex_platform::spool::Checkpoint;

use crate::allocation;
use crate::input::{Input, piece};
use crate::scratch;

/// Two records of the longest inputs, as bytes, as JSON and as what they mean.
const MEMORY_MAX: usize = 64 << 20;
const MAGIC: &[u8] = b"AMBXREC1";
/// Magic, generation, length and checksum.
const HEADER_BYTES: usize = 28;
/// Offset and checksum of a download.
const MARK_BYTES: usize = 12;

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.byte();
    if flags & 1 == 0 {
        state(flags, input);
    } else {
        download(flags, input);
    }
}

/// One of the two files of a record as it stands on the disk.
#[derive(Debug)]
struct Slot {
    image: Vec<u8>,
    /// Its generation where it is whole.
    whole: Option<u64>,
}

impl Slot {
    /// `sealed`: the content gets a header that fits; else it is what the file holds.
    fn new(sealed: bool, generation: u64, content: &[u8]) -> Self {
        if !sealed {
            return Self {
                image: content.to_vec(),
                whole: None,
            };
        }
        let mut image = MAGIC.to_vec();
        image.extend_from_slice(&generation.to_le_bytes());
        image.extend_from_slice(&(content.len() as u64).to_le_bytes());
        let mut sum = crc32fast::Hasher::new();
        sum.update(&image);
        sum.update(content);
        image.extend_from_slice(&sum.finalize().to_le_bytes());
        image.extend_from_slice(content);
        Self {
            image,
            whole: Some(generation),
        }
    }
}

fn slots(flags: u8, input: &mut Input<'_>) -> [Slot; 2] {
    let generations = [input.u64(), input.u64()];
    let first = Slot::new(flags & 2 != 0, generations[0], input.piece());
    let second = Slot::new(flags & 4 != 0, generations[1], input.piece());
    [first, second]
}

fn lay(folder: &Path, name: &str, slots: &[Slot; 2]) {
    for (slot, end) in slots.iter().zip(["a", "b"]) {
        scratch::write(&folder.join(format!("{name}.{end}")), &slot.image);
    }
}

/// Everything that a store tells.
#[derive(Debug, Clone, PartialEq)]
struct Told(String);

impl Told {
    fn of(store: &Store) -> Self {
        Self(format!(
            "{:?} {:?} {:?} {:?}",
            store.provides(),
            store.deployment(),
            store.standalone(),
            store.reports()
        ))
    }
}

fn open(folder: &Path) -> Store {
    let opened: Result<Store, StoreError> = Store::open(folder);
    opened.expect("damaged state is no reason not to start")
}

fn state(flags: u8, mut input: Input<'_>) {
    let folder = scratch::folder("state");
    let slots = slots(flags, &mut input);
    lay(&folder, "state", &slots);
    let mut store = allocation::at_most(MEMORY_MAX, || open(&folder));
    let told = Told::of(&store);
    assert_eq!(Told::of(&open(&folder)), told, "started twice");

    if let Some(newest) = newest(&slots) {
        let alone = scratch::folder("alone");
        scratch::write(&alone.join("state.a"), &newest.image);
        assert_eq!(Told::of(&open(&alone)), told, "the newest record counts");
    }
    if let Some(record) = store.deployment().cloned() {
        comes_to_an_end(record, input);
    }

    // from any beginning, a save is a save
    let name = "a-name";
    let facts = Facts {
        artifact_name: name.into(),
        ..Facts::default()
    };
    store.initialise(Some(&facts)).expect("it can be saved");
    assert_eq!(store.artifact_name(), Some(name));
    let record = Record::new("d1", "http://server/artifact");
    store
        .save_deployment(&record, Adoption::Keep)
        .expect("it can be saved");
    let again = open(&folder);
    assert_eq!(Told::of(&again), Told::of(&store), "what was saved");
}

/// Which record the agent must have read; `None` where that is for the reader to say: nothing is sealed, or bytes that
/// are taken as they are may be a record of their own.
fn newest(slots: &[Slot; 2]) -> Option<&Slot> {
    let generation = |slot: &Slot| slot.whole.filter(|n| (1..u64::MAX).contains(n));
    if slots
        .iter()
        .any(|slot| slot.whole.is_none() && slot.image.starts_with(MAGIC))
    {
        return None;
    }
    let [first, second] = slots;
    match (generation(first), generation(second)) {
        (None, None) => None,
        (Some(_), None) => Some(first),
        (None, Some(_)) => Some(second),
        (Some(one), Some(other)) => Some(if other > one { second } else { first }),
    }
}

/// Goes on from the record as after a restart, with outcomes as the input says.
fn comes_to_an_end(record: Record, mut input: Input<'_>) {
    const ANSWERS: usize = 64;
    let found = Found {
        checkpoint: (input.byte() & 1 != 0).then_some(4096),
        boot: None,
    };
    let (mut record, mut effects) = ambidex_machine::recover(record, &found);
    // once nothing more goes wrong, no path is longer than all steps twice
    for number in 0..ANSWERS + 200 {
        let stored = serde_json::to_string(&record).expect("a record is JSON");
        let read: Record = serde_json::from_str(&stored).expect("what is stored can be read");
        assert_eq!(serde_json::to_string(&read).ok(), Some(stored));
        let Some(last) = effects.last().filter(|effect| !effect.is_silent()) else {
            return;
        };
        let answer = if number < ANSWERS { input.byte() } else { 0 };
        let saves = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Save | Effect::Settle(_)));
        let event = if saves && answer == 255 {
            Event::SaveFailed("no space".into())
        } else {
            outcome(last, answer)
        };
        (record, effects) = ambidex_machine::step(record, event);
    }
    panic!("the deployment does not end; it is at {:?}", record.step);
}

/// An outcome that this effect can have.
fn outcome(effect: &Effect, answer: u8) -> Event {
    let failed = || Event::Failed("it failed".into());
    match (effect, answer % 5) {
        (Effect::AskReboot, 0) => Event::RebootNeed(Reboot::No),
        (Effect::AskReboot, 1) => Event::RebootNeed(Reboot::Automatic),
        (Effect::AskReboot, 2) => Event::RebootNeed(Reboot::Custom),
        (Effect::AskRollback, 0) => Event::CanRollBack(true),
        (Effect::AskRollback, 1) => Event::CanRollBack(false),
        (Effect::Open, 0) => Event::Opened(Facts {
            artifact_name: "new".into(),
            payload_type: Some("app".into()),
            ..Facts::default()
        }),
        (Effect::AskReboot | Effect::AskRollback | Effect::Open, 3) => failed(),
        (Effect::Conclude(_) | Effect::Forget, 3) => Event::SaveFailed("no space".into()),
        (
            Effect::Open
            | Effect::Stream
            | Effect::Hold(_)
            | Effect::Report(_, Insistence::UntilAccepted),
            1,
        ) => Event::Aborted,
        (
            Effect::Open
            | Effect::Stream
            | Effect::Hold(_)
            | Effect::Scripts(..)
            | Effect::Report(_, Insistence::UntilAccepted),
            2,
        ) => Event::Stopped,
        (Effect::Report(_, Insistence::Once), 1) => Event::Aborted,
        (Effect::AskReboot | Effect::AskRollback | Effect::Open, _) => failed(),
        (Effect::Conclude(_) | Effect::Forget, _) | (_, 0..=2) => Event::Done,
        _ => failed(),
    }
}

fn download(flags: u8, mut input: Input<'_>) {
    let folder = scratch::folder("download");
    let mut slots = slots(flags, &mut input);
    let data = input.rest();
    if flags & 8 != 0 {
        // a checkpoint of what is there, up to a place that the record says
        for slot in &mut slots {
            let Some(generation) = slot.whole else {
                continue;
            };
            let Some((content, label)) = slot.image[HEADER_BYTES..].split_at_checked(MARK_BYTES)
            else {
                continue;
            };
            let offset = usize::from(content[0]).min(data.len());
            let mut content = (offset as u64).to_le_bytes().to_vec();
            content.extend_from_slice(&crc32fast::hash(&data[..offset]).to_le_bytes());
            content.extend_from_slice(label);
            *slot = Slot::new(true, generation, &content);
        }
    }
    lay(&folder, "checkpoint", &slots);
    scratch::write(&folder.join("data"), data);
    let found = Checkpoint::find(&folder).expect("damaged records are none");
    let Some(checkpoint) = found else {
        assert!(
            newest(&slots).is_none_or(|slot| slot.image.len() < HEADER_BYTES + MARK_BYTES),
            "a whole checkpoint was not found"
        );
        return;
    };
    let offset = checkpoint.offset();
    let resumed = allocation::at_most(1 << 20, || {
        checkpoint.resume(64 << 10).expect("the files can be read")
    });
    let Some((mut spool, mut beginning)) = resumed else {
        return;
    };
    let mut read = Vec::new();
    beginning.read_to_end(&mut read).expect("it can be read");
    assert_eq!(read.len() as u64, offset);
    assert_eq!(Some(&read[..]), data.get(..read.len()), "what was received");
    spool.append(b"more").expect("it can be written");
    assert_eq!(spool.offset(), offset + 4);
    drop(spool);
    let kept = std::fs::read(folder.join("data")).expect("it is there");
    assert_eq!(kept, [&read[..], b"more"].concat());
}

pub fn seeds() -> Vec<Vec<u8>> {
    let make = |flags: u8, generations: [u64; 2], first: &[u8], second: &[u8], rest: &[u8]| {
        [
            &[flags][..],
            &generations[0].to_le_bytes(),
            &generations[1].to_le_bytes(),
            &piece(first),
            &piece(second),
            rest,
        ]
        .concat()
    };
    let named = br#"{"version":1,"provides":{"artifact_name":"r1","rootfs-image.version":"1"},"reports":[{"deployment_id":"d0","status":"failure","reason":"why","with_log":true}]}"#;
    let deployment = |step: &str| {
        format!(
            r#"{{"version":1,"provides":{{"artifact_name":"r1"}},"deployment":{{"deployment_id":"d7","uri":"http://s/a","step":"{step}","facts":{{"artifact_name":"r2","artifact_group":"g","payload_type":"rootfs-image","provides":{{"k":"v"}},"clears":["k*"]}},"reboot":"automatic","rollback_reboot":"no","undo":"missing","verdict":"untouched","reason":"why","saves":4,"furthest":9,"stalls":1,"held_restarts":1,"boot":"b","stopped":true}}}}"#
        )
    };
    let standalone = br#"{"version":1,"provides":{},"standalone":{"facts":{"artifact_name":"s"},"at":"before_commit_enter","failed":false}}"#;
    let strange = br#"{"version":9,"provides":{"artifact_name":"r1"},"reports":"?","deployment":{"deployment_id":"d7","step":["?"],"saves":4},"later":1}"#;
    let mut all = vec![
        make(6, [1, 2], named, standalone, b""),
        make(2, [3, 0], strange, b"junk", b"\x01\x03\x02"),
        make(4, [0, u64::MAX], b"AMBXREC1", named, b""),
        make(0, [0, 0], b"AMBXREC1\0\0", b"", b""),
        make(
            1 | 6 | 8,
            [1, 2],
            b"\x08\0\0\0\0\0\0\0\0\0\0\0label",
            b"\x10\0\0\0\0\0\0\0\0\0\0\0{\"deployment_id\":\"d\",\"total\":20}",
            b"0123456789abcdefghij",
        ),
        make(1 | 2, [1, 0], b"\xff\0\0\0\0\0\0\0\0\0\0\0x", b"", b"data"),
    ];
    for step in [
        "report_downloading",
        "stream",
        "hold_install",
        "install",
        "hold_reboot",
        "reboot",
        "verify_reboot",
        "hold_commit",
        "report_committing",
        "commit",
        "commit_leave",
        "ask_rollback",
        "rollback",
        "rollback_reboot",
        "failure",
        "cleanup",
        "discard",
        "done",
    ] {
        all.push(make(
            6,
            [1, 2],
            named,
            deployment(step).as_bytes(),
            &[0, 1, 3, 0, 2, 4, 255],
        ));
    }
    all
}
