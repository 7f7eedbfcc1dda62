//! Several batches in one transaction.

use super::fault::{Effect, Fault};
use super::session::{Session, Step, pipeline};
use super::writer::{Batch, Outcome, WRITE_LOCK};
use crate::{DbError, Expect};

/// Batches sent ahead of the answers. One that fails makes those behind it run again, so after a
/// failure fewer are sent ahead.
pub(super) const WINDOW_MAX: usize = 64;

/// The group came to nothing.
pub(super) struct Broken {
    pub(super) fault: Fault,
    /// Certainly nothing of it was committed.
    pub(super) undone: bool,
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Broken {
        Broken {
            undone: fault.effect != Effect::Statement,
            fault,
        }
    }
}

/// A commit without an answer may have happened.
pub(super) fn in_doubt(fault: Fault) -> Broken {
    if fault.effect != Effect::Lost {
        return fault.into();
    }
    Broken {
        fault: Fault::lost(format!(
            "{}; it is not known whether the change was made",
            fault.error
        )),
        undone: false,
    }
}

/// A batch whose statements are prepared.
struct Ready<'a> {
    index: usize,
    batch: &'a Batch,
    prepared: Vec<tokio_postgres::Statement>,
}

impl Ready<'_> {
    fn steps<'a>(&'a self, session: &'a Session) -> impl Iterator<Item = Step<'a>> {
        self.prepared
            .iter()
            .zip(&self.batch.statements)
            .map(|(prepared, statement)| session.write_step(prepared, &statement.params))
    }

    /// What became of the batch, from the answers to its statements.
    fn judge(
        &self,
        answers: &mut impl Iterator<Item = Result<u64, tokio_postgres::Error>>,
    ) -> Result<Vec<u64>, Fault> {
        let mut touched = Vec::with_capacity(self.prepared.len());
        let mut failed = None;
        for (index, statement) in self.batch.statements.iter().enumerate() {
            // Every answer is taken, also those behind a failure.
            let answer = answers.next();
            if failed.is_some() {
                continue;
            }
            match answer {
                Some(Ok(rows)) if statement.expect.met(rows) => touched.push(rows),
                Some(Ok(_)) => failed = Some(DbError::Conflict { index }.into()),
                Some(Err(error)) => failed = Some(Fault::of(&error, &statement.sql)),
                None => failed = Some(DbError::Closed.into()),
            }
        }
        failed.map_or(Ok(touched), Err)
    }
}

/// Applies the batches; `Ok` once everything is on the disk.
pub(super) async fn run(
    session: &Session,
    batches: &[Batch],
    window: &mut usize,
) -> Result<Vec<Outcome>, Broken> {
    let mut outcomes: Vec<Outcome> = batches.iter().map(|_| Ok(Vec::new())).collect();
    let mut ready = Vec::with_capacity(batches.len());
    for (index, batch) in batches.iter().enumerate() {
        // Before the transaction: a statement that does not prepare would void it.
        match prepare(session, batch).await {
            Ok(prepared) if prepared.is_empty() => {}
            Ok(prepared) => ready.push(Ready {
                index,
                batch,
                prepared,
            }),
            Err(fault) if fault.effect == Effect::Statement => outcomes[index] = Err(fault.error),
            Err(fault) => return Err(fault.into()),
        }
    }
    match ready.as_slice() {
        [] => {}
        [only] => outcomes[only.index] = single(session, only).await?,
        many => together(session, many, window, &mut outcomes).await?,
    }
    Ok(outcomes)
}

async fn prepare(
    session: &Session,
    batch: &Batch,
) -> Result<Vec<tokio_postgres::Statement>, Fault> {
    let mut prepared = Vec::with_capacity(batch.statements.len());
    for statement in &batch.statements {
        prepared.push(session.prepare(&statement.sql, &statement.params).await?);
    }
    Ok(prepared)
}

/// One batch needs no savepoint, and no second trip if it expects nothing.
async fn single(session: &Session, ready: &Ready<'_>) -> Result<Outcome, Broken> {
    let blind = ready
        .batch
        .statements
        .iter()
        .all(|statement| statement.expect == Expect::Any);
    let mut steps = opening(session);
    let control = steps.len();
    steps.extend(ready.steps(session));
    if blind {
        steps.push(session.command_step("COMMIT".to_owned()));
    }
    let mut answers = pipeline(steps).await.into_iter();
    for answer in answers.by_ref().take(control) {
        answer.map_err(|e| Fault::of(&e, "starting a write"))?;
    }
    let outcome = match ready.judge(&mut answers) {
        Ok(touched) => Ok(touched),
        Err(fault) if fault.effect == Effect::Statement => Err(fault.error),
        // The commit was already on its way.
        Err(fault) if blind => return Err(in_doubt(fault)),
        Err(fault) => return Err(fault.into()),
    };
    if blind {
        // Of a transaction that failed before, the commit is a rollback.
        if let Some(Err(error)) = answers.next() {
            return Err(in_doubt(Fault::of(&error, "committing")));
        }
        return Ok(outcome);
    }
    let end = if outcome.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    match session.command(end).await {
        Ok(()) => Ok(outcome),
        // Nothing was to be kept, and without its connection nothing is.
        Err(_) if outcome.is_err() => Ok(outcome),
        Err(fault) => Err(in_doubt(fault)),
    }
}

/// The steps that every write transaction begins with.
fn opening(session: &Session) -> Vec<Step<'_>> {
    vec![
        session.command_step("BEGIN".to_owned()),
        session.command_step(session.lock(WRITE_LOCK)),
    ]
}

/// Several batches, each behind its savepoint. The savepoints of a window lie inside each other:
/// releasing the first releases all, and going back to one undoes it and everything behind it.
async fn together(
    session: &Session,
    ready: &[Ready<'_>],
    window: &mut usize,
    outcomes: &mut [Outcome],
) -> Result<(), Broken> {
    let mut control = opening(session);
    let mut at = 0;
    while at < ready.len() {
        let end = ready.len().min(at + *window);
        let mut steps = std::mem::take(&mut control);
        let controls = steps.len();
        for (number, one) in ready[at..end].iter().enumerate() {
            steps.push(session.command_step(format!("SAVEPOINT b{number}")));
            steps.extend(one.steps(session));
        }
        let mut answers = pipeline(steps).await.into_iter();
        for answer in answers.by_ref().take(controls) {
            answer.map_err(|e| Fault::of(&e, "starting a write"))?;
        }
        let mut failed = None;
        for (number, one) in ready[at..end].iter().enumerate() {
            let savepoint = answers.next();
            match one.judge(&mut answers) {
                Ok(touched) => outcomes[one.index] = Ok(touched),
                Err(fault) if fault.effect == Effect::Statement => {
                    if let Some(Err(error)) = savepoint {
                        return Err(Fault::of(&error, "starting a batch").into());
                    }
                    outcomes[one.index] = Err(fault.error);
                    failed = Some(number);
                    break;
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        match failed {
            None => {
                at = end;
                *window = (*window * 2).min(WINDOW_MAX);
            }
            Some(number) => {
                control.push(session.command_step(format!("ROLLBACK TO SAVEPOINT b{number}")));
                at += number + 1;
                *window = (*window / 2).max(1);
            }
        }
        control.push(session.command_step("RELEASE SAVEPOINT b0".to_owned()));
    }
    let closing = control.len();
    control.push(session.command_step("COMMIT".to_owned()));
    for (number, answer) in pipeline(control).await.into_iter().enumerate() {
        if let Err(error) = answer {
            let fault = Fault::of(&error, "committing");
            return Err(if number < closing && fault.effect != Effect::Lost {
                fault.into()
            } else {
                in_doubt(fault)
            });
        }
    }
    Ok(())
}
