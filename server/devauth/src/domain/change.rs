//! One change of a device and its sets, gathered into one atomic batch.
//!
//! The batch starts with a conditional update of the device's revision, so of two concurrent changes one conflicts
//! and is decided anew on what the other left. Tokens of sets that leave `accepted`, the tallies and the hand-over
//! to the neighbours ride in the same batch.

use ambidex_db::{DbError, Statement};

use crate::error::DevauthError;
use crate::store::auth_set::{self, SetRow};
use crate::store::device::{self, DeviceRow};
use crate::store::{handover, tally, token};

use super::status::{DeviceStatus, SetStatus};

pub(super) struct Change<'a> {
    tenant: &'a str,
    before: &'a DeviceRow,
    /// The sets as the change leaves them.
    sets: Vec<SetRow>,
    statements: Vec<Statement>,
    revoked: bool,
}

/// A change ready to be applied.
pub(super) struct Batch {
    pub statements: Vec<Statement>,
    /// The device as the batch leaves it.
    pub after: DeviceRow,
    pub status_changed: bool,
    /// Whether tokens of the device go with it.
    pub revoked: bool,
    /// Which statement conflicts when the device limit is reached.
    limit_index: Option<usize>,
}

impl<'a> Change<'a> {
    pub fn new(tenant: &'a str, before: &'a DeviceRow, sets: Vec<SetRow>) -> Change<'a> {
        Change {
            tenant,
            before,
            sets,
            statements: Vec::new(),
            revoked: false,
        }
    }

    pub fn add_set(&mut self, set: SetRow, key_hash: &str) {
        self.statements
            .push(auth_set::insert(self.tenant, &set, key_hash));
        self.sets.push(set);
    }

    pub fn set_status(&mut self, set_id: &str, to: SetStatus) {
        for set in self
            .sets
            .iter_mut()
            .filter(|set| set.id == set_id && set.status != to)
        {
            self.statements
                .push(auth_set::update(self.tenant, &set.id, to));
            if set.status == SetStatus::Accepted {
                self.statements.push(token::delete(self.tenant, &set.id));
                self.revoked = true;
            }
            set.status = to;
        }
    }

    /// Accepts one set; a device has at most one accepted set, so another one becomes rejected.
    pub fn accept(&mut self, set_id: &str) {
        let others: Vec<String> = self
            .sets
            .iter()
            .filter(|set| set.status == SetStatus::Accepted && set.id != set_id)
            .map(|set| set.id.clone())
            .collect();
        for other in others {
            self.set_status(&other, SetStatus::Rejected);
        }
        self.set_status(set_id, SetStatus::Accepted);
    }

    pub fn remove_set(&mut self, set_id: &str) {
        self.statements.push(auth_set::delete(self.tenant, set_id));
        self.statements.push(token::delete(self.tenant, set_id));
        self.revoked = true;
        self.sets.retain(|set| set.id != set_id);
    }

    pub fn statement(&mut self, statement: Statement) {
        self.statements.push(statement);
    }

    pub fn note(&mut self, statement: Option<Statement>) {
        self.statements.extend(statement);
    }

    pub fn finish(mut self, now_ms: i64) -> Batch {
        let (tenant, before) = (self.tenant, self.before);
        let status = DeviceStatus::of(self.sets.iter().map(|set| set.status));
        let after = DeviceRow {
            status,
            revision: before.revision + 1,
            updated_ms: now_ms,
            ..before.clone()
        };
        let status_changed = status != before.status;
        let mut statements = vec![device::update(tenant, before, status, now_ms)];
        let mut limit_index = None;
        if status_changed {
            statements.push(tally::subtract(tenant, before.status));
            if status == DeviceStatus::Accepted {
                statements.push(tally::prepare_accepted(tenant));
                limit_index = Some(statements.len());
                statements.push(tally::add_accepted(tenant));
            } else {
                statements.push(tally::add(tenant, status));
            }
            statements.push(handover::changed(tenant, &before.id, after.revision));
        }
        statements.append(&mut self.statements);
        Batch {
            statements,
            after,
            status_changed,
            revoked: self.revoked,
            limit_index,
        }
    }
}

impl Batch {
    /// What a failed batch means.
    pub fn error(limit_index: Option<usize>, error: DbError) -> DevauthError {
        match error {
            DbError::Conflict { index } if Some(index) == limit_index => DevauthError::LimitReached,
            DbError::Conflict { .. } | DbError::UniqueViolation { .. } => DevauthError::Contended,
            error => DevauthError::Database(error),
        }
    }

    pub fn limit_index(&self) -> Option<usize> {
        self.limit_index
    }
}
