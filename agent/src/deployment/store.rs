//! What the device is and what it is in the middle of, in one atomic record.
//!
//! Owns name, group and provides, the record of the deployment in work, the state of a standalone
//! installation and the results that no server has taken yet. They live in one record file, so that name,
//! provides and the mark of a deployment's end change together or not at all. A failed save changes nothing,
//! in memory neither. One process at a time: the caller holds the state directory's lock.

use std::path::Path;

use ambidex_artifact::provides::{self, Committed, Provides};
use ambidex_machine::{
    Adoption, Conclusion, Facts, INCONSISTENT_SUFFIX, Pair, REASON_CHARS_MAX, Record, Software,
};
use ambidex_platform::{
    fs,
    record::{Loaded, RecordError, RecordFile},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    doubt::{Doubt, Image},
    reports::FinalReport,
    standalone::Pending,
};

/// Name of the record file in the state directory.
const NAME: &str = "state";
/// Format of the contents; a larger one is read as far as it is understood.
const VERSION: u64 = 1;
/// The name of a device that has never been told its name.
pub const UNKNOWN_NAME: &str = "unknown";
/// Undelivered results that are kept; of more, the oldest is forgotten. The daemon takes no new deployment while one
/// waits, so that more than one is rare.
const REPORTS_MAX: usize = 16;

const ARTIFACT_NAME: &str = "artifact_name";
const ARTIFACT_GROUP: &str = "artifact_group";

/// Why the state could not be read or saved.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "cannot use the state directory: {0}; check that it exists, is writable and has free space"
    )]
    Record(#[from] RecordError),
    #[error("cannot put the unreadable state aside: {0}")]
    Aside(#[from] fs::FsError),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Contents {
    version: u64,
    provides: Provides,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<Record>,
    #[serde(skip_serializing_if = "Option::is_none")]
    standalone: Option<Pending>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reports: Vec<FinalReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<Doubt>,
    /// The root file system's image that was last made permanent.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Image>,
}

/// The device's durable state. See the module's text.
#[derive(Debug)]
pub struct Store {
    file: RecordFile,
    contents: Contents,
    /// The queue on disk could not be shortened; what it holds was sent.
    reports_muted: bool,
}

impl Store {
    /// Reads the state. Damaged state is put aside, never a reason not to start: what can still be read is used.
    ///
    /// # Errors
    /// When the state directory cannot be read.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let file = RecordFile::open(state_dir, NAME);
        let contents = match file.load()? {
            Loaded::Record { bytes, damaged, .. } => {
                if let Some(path) = damaged {
                    log::warn!("{} is damaged; using the state before it", path.display());
                }
                Self::parse(state_dir, &bytes)?
            }
            Loaded::Empty { broken } => {
                if let Some(path) = broken {
                    log::error!(
                        "the agent's state was damaged and is now in {}; starting afresh",
                        path.display()
                    );
                }
                Contents::default()
            }
        };
        Ok(Self {
            file,
            contents: Contents {
                version: VERSION,
                ..contents
            },
            reports_muted: false,
        })
    }

    fn parse(state_dir: &Path, bytes: &[u8]) -> Result<Contents, StoreError> {
        match serde_json::from_slice::<Map<String, Value>>(bytes) {
            Ok(object) => {
                let (contents, complaints) = understand(object, state_dir);
                if !complaints.is_empty() {
                    let path = put_aside(state_dir, bytes)?;
                    for complaint in complaints {
                        log::error!(
                            "the agent's state: {complaint}; a copy is in {}",
                            path.display()
                        );
                    }
                }
                Ok(contents)
            }
            Err(error) => {
                let path = put_aside(state_dir, bytes)?;
                log::error!(
                    "the agent's state cannot be understood ({error}) and is now in {}",
                    path.display()
                );
                Ok(Contents::default())
            }
        }
    }

    /// Everything the device provides, the artifact's name and group included.
    #[must_use]
    pub fn provides(&self) -> &Provides {
        &self.contents.provides
    }

    /// `None` until a bootstrap artifact or a first deployment gave one.
    #[must_use]
    pub fn artifact_name(&self) -> Option<&str> {
        self.contents
            .provides
            .get(ARTIFACT_NAME)
            .map(String::as_str)
    }

    #[must_use]
    pub fn artifact_group(&self) -> Option<&str> {
        self.contents
            .provides
            .get(ARTIFACT_GROUP)
            .map(String::as_str)
    }

    /// The deployment in work.
    #[must_use]
    pub fn deployment(&self) -> Option<&Record> {
        self.contents.deployment.as_ref()
    }

    /// The standalone installation in work.
    #[must_use]
    pub fn standalone(&self) -> Option<&Pending> {
        self.contents.standalone.as_ref()
    }

    /// Results that no server has taken yet, oldest first.
    #[must_use]
    pub fn reports(&self) -> &[FinalReport] {
        if self.reports_muted {
            &[]
        } else {
            &self.contents.reports
        }
    }

    /// Hides the queue for the life of this process: it was sent, but cannot be shortened on disk.
    pub(super) fn mute_reports(&mut self) {
        self.reports_muted = true;
    }

    /// Makes the record of the deployment durable and changes the provides as told.
    ///
    /// # Errors
    /// When it is not on disk; then nothing has changed.
    pub fn save_deployment(
        &mut self,
        record: &Record,
        adoption: Adoption,
    ) -> Result<(), StoreError> {
        self.change(|contents| {
            contents.adopt(adoption, record.facts.as_ref(), Some(&record.deployment_id));
            contents.deployment = Some(record.clone());
        })
    }

    /// Ends a deployment: forgets its record, changes the provides, queues the result.
    ///
    /// # Errors
    /// As for [`Self::save_deployment`].
    pub fn conclude(
        &mut self,
        record: &Record,
        conclusion: &Conclusion,
        with_log: bool,
    ) -> Result<(), StoreError> {
        self.reports_muted = false;
        self.change(|contents| {
            contents.adopt(
                conclusion.adoption,
                record.facts.as_ref(),
                Some(&record.deployment_id),
            );
            contents.deployment = None;
            contents
                .reports
                .retain(|report| report.deployment_id != record.deployment_id);
            contents
                .reports
                .push(FinalReport::new(record, conclusion, with_log));
            if contents.reports.len() > REPORTS_MAX {
                contents.reports.remove(0);
            }
        })
    }

    /// Forgets the deployment without a result.
    ///
    /// # Errors
    /// As for [`Self::save_deployment`].
    pub fn forget_deployment(&mut self) -> Result<(), StoreError> {
        self.change(|contents| contents.deployment = None)
    }

    /// Replaces the state of the standalone installation and changes the provides as told.
    ///
    /// # Errors
    /// As for [`Self::save_deployment`].
    pub fn save_standalone(
        &mut self,
        pending: Option<&Pending>,
        adoption: Adoption,
        facts: Option<&Facts>,
    ) -> Result<(), StoreError> {
        self.change(|contents| {
            contents.adopt(adoption, facts, None);
            contents.standalone = pending.cloned();
        })
    }

    /// Changes the queue of results.
    ///
    /// # Errors
    /// As for [`Self::save_deployment`].
    pub(super) fn change_reports(
        &mut self,
        change: impl FnOnce(&mut Vec<FinalReport>),
    ) -> Result<(), StoreError> {
        self.change(|contents| change(&mut contents.reports))
    }

    /// Sets name and provides of a device that has none.
    ///
    /// # Errors
    /// As for [`Self::save_deployment`].
    pub fn initialise(&mut self, facts: Option<&Facts>) -> Result<(), StoreError> {
        self.change(|contents| match facts {
            Some(facts) => adopt(&mut contents.provides, Adoption::Adopt, Some(facts)),
            None => {
                contents
                    .provides
                    .insert(ARTIFACT_NAME.into(), UNKNOWN_NAME.into());
            }
        })
    }

    /// Whether the artifact's name says that nobody knows what runs.
    #[must_use]
    pub fn is_inconsistent(&self) -> bool {
        self.artifact_name()
            .is_some_and(|name| name.ends_with(INCONSISTENT_SUFFIX))
    }

    /// What is to be found out, if anything is.
    #[must_use]
    pub fn doubt(&self) -> Option<&Doubt> {
        self.contents.doubt.as_ref()
    }

    /// Notes what is at stake before a slot is written; `None` forgets what was noted before.
    ///
    /// # Errors
    /// As for [`Self::save_deployment`].
    pub fn begin_doubt(
        &mut self,
        deployment_id: Option<&str>,
        pair: Option<Pair>,
        facts: &Facts,
    ) -> Result<(), StoreError> {
        self.change(|contents| {
            contents.doubt = pair.map(|pair| Doubt {
                deployment_id: deployment_id.map(str::to_owned),
                pair,
                before: contents.provides.clone(),
                facts: facts.clone(),
                old_image: contents.image.clone(),
                new_bytes: None,
            });
        })
    }

    /// All of the image is in the slot, verified.
    ///
    /// # Errors
    /// As for [`Self::save_deployment`].
    pub fn complete_doubt(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.change(|contents| {
            if let Some(doubt) = &mut contents.doubt {
                doubt.pair.complete = true;
                doubt.new_bytes = Some(bytes);
            }
        })
    }

    /// It is known which software runs: name and provides are its own, and a result that was not told yet says so, too.
    ///
    /// # Errors
    /// As for [`Self::save_deployment`].
    pub fn settle_doubt(
        &mut self,
        software: Software,
        remark: Option<&str>,
    ) -> Result<(), StoreError> {
        self.change(|contents| {
            let Some(doubt) = contents.doubt.take() else {
                return;
            };
            contents.provides = doubt.provides(software);
            if software == Software::New {
                contents.image = doubt.image(Software::New);
            }
            for report in &mut contents.reports {
                if doubt.deployment_id.as_ref() == Some(&report.deployment_id)
                    && let (Some(reason), Some(remark)) = (&report.reason, remark)
                {
                    let told = format!("{reason}; {remark}");
                    if told.chars().count() <= REASON_CHARS_MAX {
                        report.reason = Some(told);
                    }
                }
            }
        })
    }

    fn change(&mut self, change: impl FnOnce(&mut Contents)) -> Result<(), StoreError> {
        let mut next = self.contents.clone();
        change(&mut next);
        if next == self.contents {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&next).expect("invariant: the state has only text keys");
        self.file.save(&bytes)?;
        self.contents = next;
        Ok(())
    }
}

impl Contents {
    /// Changes the provides, and keeps both truths only as long as neither is known.
    fn adopt(&mut self, adoption: Adoption, facts: Option<&Facts>, deployment_id: Option<&str>) {
        let mut provides = std::mem::take(&mut self.provides);
        adopt(&mut provides, adoption, facts);
        self.provides = provides;
        let own = self
            .doubt
            .as_ref()
            .is_some_and(|doubt| doubt.deployment_id.as_deref() == deployment_id);
        match adoption {
            Adoption::Keep => {}
            Adoption::NameInconsistent if own => {}
            // another deployment's software lies over it
            Adoption::NameInconsistent => self.doubt = None,
            Adoption::Adopt | Adoption::AdoptInconsistent => {
                if let Some(doubt) = self.doubt.take().filter(|_| own) {
                    self.image = doubt.image(Software::New);
                }
            }
        }
    }
}

/// Reads field by field, so that one that is damaged or from another version does not take the others with it.
fn understand(mut object: Map<String, Value>, state_dir: &Path) -> (Contents, Vec<String>) {
    let mut complaints = Vec::new();
    let mut contents = Contents::default();
    if let Some(value) = object.remove("provides") {
        contents.provides = field("provides", value, &mut complaints).unwrap_or_default();
    }
    if let Some(value) = object.remove("standalone") {
        contents.standalone = field("standalone", value, &mut complaints);
    }
    if let Some(value) = object.remove("reports") {
        contents.reports = field("reports", value, &mut complaints).unwrap_or_default();
    }
    if let Some(value) = object.remove("doubt") {
        contents.doubt = field("doubt", value, &mut complaints);
    }
    if let Some(value) = object.remove("image") {
        contents.image = field("image", value, &mut complaints);
    }
    if let Some(value) = object.remove("deployment") {
        contents.deployment = match Record::deserialize(&value) {
            Ok(record) => Some(record),
            Err(error) => {
                complaints.push(format!(
                    "the record of the deployment cannot be understood: {error}"
                ));
                salvage(&value, state_dir)
            }
        };
    }
    (contents, complaints)
}

fn field<T: serde::de::DeserializeOwned>(
    name: &str,
    value: Value,
    complaints: &mut Vec<String>,
) -> Option<T> {
    serde_json::from_value(value)
        .map_err(|error| complaints.push(format!("{name} cannot be understood: {error}")))
        .ok()
}

/// Of a record that cannot be understood: at least its id, so that the deployment is rolled back and reported.
fn salvage(value: &Value, state_dir: &Path) -> Option<Record> {
    let id = value.get("deployment_id")?.as_str()?;
    let facts = value
        .get("facts")
        .and_then(|facts| Facts::deserialize(facts).ok())
        .or_else(|| {
            let header = state_dir.join("modules/v3/payloads/0000/tree/header");
            let text = |name: &str| {
                let bytes = fs::read_if_present(&header.join(name), 4096)
                    .ok()
                    .flatten()?;
                String::from_utf8(bytes).ok()
            };
            let payload_type = text("payload_type")?;
            let artifact_name = text("artifact_name").unwrap_or_else(|| UNKNOWN_NAME.into());
            Some(Facts {
                artifact_name,
                payload_type: Some(payload_type),
                ..Facts::default()
            })
        });
    let saves = value
        .get("saves")
        .and_then(Value::as_u64)
        .and_then(|saves| u32::try_from(saves).ok());
    Some(Record::salvaged(id, facts, saves.unwrap_or(0)))
}

fn put_aside(state_dir: &Path, bytes: &[u8]) -> Result<std::path::PathBuf, StoreError> {
    let path = state_dir.join(format!("{NAME}.not-understood"));
    fs::write_durable(&path, bytes, 0o600)?;
    Ok(path)
}

/// Applying one twice equals applying it once, because a restart may do so.
pub(super) fn adopt(provides: &mut Provides, adoption: Adoption, facts: Option<&Facts>) {
    let inconsistent = |name: &str| {
        let name = name.strip_suffix(INCONSISTENT_SUFFIX).unwrap_or(name);
        format!("{name}{INCONSISTENT_SUFFIX}")
    };
    match (adoption, facts) {
        (Adoption::Keep, _) => {}
        (Adoption::Adopt | Adoption::AdoptInconsistent, Some(facts)) => {
            let name = match adoption {
                Adoption::Adopt => facts.artifact_name.clone(),
                _ => inconsistent(&facts.artifact_name),
            };
            let nothing = Provides::new();
            let committed = Committed {
                name: &name,
                group: facts.artifact_group.as_deref(),
                type_provides: facts.provides.as_ref().unwrap_or(&nothing),
                clears: facts.clears.as_deref(),
            };
            *provides = provides::commit(provides, &committed);
        }
        (Adoption::NameInconsistent, Some(facts)) => {
            provides.insert(ARTIFACT_NAME.into(), inconsistent(&facts.artifact_name));
            if let Some(group) = &facts.artifact_group {
                provides.insert(ARTIFACT_GROUP.into(), group.clone());
            }
        }
        // What the artifact was is lost with its record.
        (_, None) => {
            let name = provides
                .get(ARTIFACT_NAME)
                .map_or(UNKNOWN_NAME, String::as_str);
            let name = inconsistent(name);
            provides.insert(ARTIFACT_NAME.into(), name);
        }
    }
}

#[cfg(test)]
mod tests {
    use ambidex_machine::{Step, Verdict};
    use ambidex_wire::deployments::DeviceStatus;

    use super::*;

    fn facts(name: &str, provides: &[(&str, &str)], clears: Option<&[&str]>) -> Facts {
        Facts {
            artifact_name: name.into(),
            artifact_group: None,
            payload_type: Some("single-file".into()),
            provides: Some(
                provides
                    .iter()
                    .map(|(k, v)| ((*k).into(), (*v).into()))
                    .collect(),
            ),
            clears: clears.map(|globs| globs.iter().map(|glob| (*glob).into()).collect()),
        }
    }

    fn record(facts: Facts) -> Record {
        let mut record = Record::new("d1", "http://server/a");
        record.facts = Some(facts);
        record
    }

    #[test]
    fn name_provides_and_record_change_together_and_survive() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        assert_eq!(store.artifact_name(), None);
        store.initialise(None).unwrap();
        let mut settled = record(facts(
            "r2",
            &[("rootfs-image.version", "2")],
            Some(&["rootfs-image.*"]),
        ));
        settled.step = Step::Cleanup;
        settled.verdict = Some(Verdict::Success);
        store.save_deployment(&settled, Adoption::Adopt).unwrap();

        let mut store = Store::open(dir.path()).unwrap();
        assert_eq!(store.artifact_name(), Some("r2"));
        assert_eq!(store.provides()["rootfs-image.version"], "2");
        assert_eq!(store.deployment(), Some(&settled));
        let conclusion = Conclusion {
            status: DeviceStatus::Success,
            reason: None,
            adoption: Adoption::Adopt,
        };
        store.conclude(&settled, &conclusion, false).unwrap();

        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.deployment(), None);
        assert_eq!(store.reports().len(), 1);
        assert_eq!(store.artifact_name(), Some("r2"));
    }

    #[test]
    fn an_inconsistent_end_marks_the_name_once_and_keeps_the_provides() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store
            .initialise(Some(&facts("r1", &[("rootfs-image.version", "1")], None)))
            .unwrap();
        let failed = record(facts("r2", &[("rootfs-image.version", "2")], None));
        for _ in 0..2 {
            store
                .save_deployment(&failed, Adoption::NameInconsistent)
                .unwrap();
        }
        assert_eq!(store.artifact_name(), Some("r2_INCONSISTENT"));
        assert_eq!(store.provides()["rootfs-image.version"], "1");
        for _ in 0..2 {
            store
                .save_deployment(&failed, Adoption::AdoptInconsistent)
                .unwrap();
        }
        assert_eq!(store.artifact_name(), Some("r2_INCONSISTENT"));
        assert_eq!(store.provides()["rootfs-image.version"], "2");
    }

    #[test]
    fn junk_on_disk_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.initialise(None).unwrap();
        store.initialise(Some(&facts("r1", &[], None))).unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            std::fs::write(entry.unwrap().path(), b"junk").unwrap();
        }
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.artifact_name(), None);
        let names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(
            names.iter().any(|name| name.contains("broken")),
            "{names:?}"
        );
    }

    #[test]
    fn one_damaged_field_does_not_take_the_others_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = RecordFile::open(dir.path(), NAME);
        file.save(
            br#"{"version":9,"provides":{"artifact_name":"r1","k":"v"},"reports":"?",
                "deployment":{"deployment_id":"d7","step":["?"],"saves":4,
                "facts":{"artifact_name":"r2","payload_type":"rootfs-image"}},"later":1}"#,
        )
        .unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.artifact_name(), Some("r1"));
        let record = store.deployment().unwrap();
        assert_eq!(
            (record.deployment_id.as_str(), record.step, record.saves),
            ("d7", Step::Unknown, 4)
        );
        assert_eq!(
            record.facts.as_ref().unwrap().payload_type.as_deref(),
            Some("rootfs-image")
        );
        assert!(dir.path().join("state.not-understood").exists());
    }

    #[test]
    fn a_failed_save_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("state");
        std::fs::create_dir(&inner).unwrap();
        let mut store = Store::open(&inner).unwrap();
        store.initialise(None).unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        let error = store
            .save_deployment(&record(facts("r2", &[], None)), Adoption::Adopt)
            .unwrap_err();
        assert!(error.to_string().contains("writable"), "{error}");
        assert_eq!(store.artifact_name(), Some(UNKNOWN_NAME));
        assert_eq!(store.deployment(), None);
    }
}
