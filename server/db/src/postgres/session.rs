//! One connection with its prepared statements.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::runtime::Handle;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::dialect;
use super::fault::{Effect, Fault};
use super::target::Target;
use super::value::{self, Param};
use crate::{DbError, Row, Value};

/// Statements kept prepared by each connection.
const STATEMENTS_CACHED: usize = 512;
/// Until a new connection is ready for work.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Half of every advisory lock: names this program among others that share a database.
const LOCK_CLASS: u32 = 0x616d_6278;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// Statements by their text, each in the variants that the kinds of parameters demand.
#[derive(Default)]
struct Prepared {
    variants: HashMap<Box<str>, Kept>,
    uses: u64,
}

struct Kept {
    variants: Vec<tokio_postgres::Statement>,
    used: u64,
}

/// Dropping it ends the connection.
pub(super) struct Session {
    client: Client,
    prepared: Mutex<Prepared>,
    /// The other half of every advisory lock: the schema.
    lock_key: u32,
}

/// A step of a pipeline: how many rows it touched.
pub(super) type Step<'a> =
    Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a>>;

impl Session {
    /// Connects and proves that the database is one to work with. Needs the runtime of the engine.
    pub(super) async fn open(target: &Target, purpose: Purpose) -> Result<Session, Fault> {
        match tokio::time::timeout(START_TIMEOUT, Session::start(target, purpose)).await {
            Ok(session) => session,
            Err(_) => Err(Fault::silent(&target.label, START_TIMEOUT)),
        }
    }

    async fn start(target: &Target, purpose: Purpose) -> Result<Session, Fault> {
        let (client, connection) = target
            .config
            .connect(target.tls.clone())
            .await
            .map_err(|e| Fault::connecting(&e, &target.label))?;
        Handle::current().spawn(async move {
            if let Err(error) = connection.await {
                // Whoever uses the connection gets an error of his own.
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        let mut session = Session {
            client,
            prepared: Mutex::default(),
            lock_key: 0,
        };
        let read_only = if purpose == Purpose::Read {
            "on"
        } else {
            "off"
        };
        session
            .command(&format!(
                "SET default_transaction_isolation = 'read committed'; \
                 SET default_transaction_read_only = {read_only}; \
                 SET standard_conforming_strings = on; \
                 SET client_min_messages = warning; \
                 SET statement_timeout = '60s'; \
                 SET lock_timeout = '20s'; \
                 SET idle_in_transaction_session_timeout = '30s'"
            ))
            .await?;
        session.check(target, purpose).await?;
        Ok(session)
    }

    async fn check(&mut self, target: &Target, purpose: Purpose) -> Result<(), Fault> {
        let rows = self
            .read(
                "SELECT current_setting('server_encoding'), current_schema(), \
                 current_setting('synchronous_commit'), current_setting('server_version_num')",
                &[],
            )
            .await?;
        let row = rows
            .first()
            .ok_or_else(|| Fault::lost("no answer to the first question"))?;
        let unusable = |reason: &str, remedy: &str| {
            Fault::from(DbError::Unavailable(format!(
                "{} cannot be used: {reason}; {remedy}",
                target.label
            )))
        };
        if row.text(0)? != "UTF8" {
            return Err(unusable(
                "its encoding is not UTF8",
                "create the database with ENCODING 'UTF8' TEMPLATE template0",
            ));
        }
        let Some(schema) = row.get::<Option<String>>(1)? else {
            return Err(unusable(
                "there is no schema to keep the tables in",
                "create the schema that search_path names",
            ));
        };
        if row.text(3)?.parse().unwrap_or(0) < 120_000 {
            return Err(unusable(
                "it is older than version 12",
                "upgrade the server",
            ));
        }
        self.lock_key = schema.bytes().fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        if purpose == Purpose::Write && matches!(row.text(2)?, "off" | "local") {
            // An acknowledged write is on the disk, whatever the server's default is.
            self.command("SET synchronous_commit = on").await?;
        }
        Ok(())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The statement that waits for a lock until the end of the transaction. `number` tells the locks
    /// of this program apart.
    pub(super) fn lock(&self, number: u32) -> String {
        format!(
            "SELECT pg_advisory_xact_lock({}, {})",
            LOCK_CLASS.wrapping_add(number).cast_signed(),
            self.lock_key.cast_signed()
        )
    }

    /// Runs statements without parameters.
    pub(super) async fn command(&self, sql: &str) -> Result<(), Fault> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(|e| Fault::of(&e, sql))
    }

    /// As [`Session::command`], for a pipeline.
    pub(super) fn command_step(&self, sql: String) -> Step<'_> {
        Box::pin(async move { self.client.batch_execute(&sql).await.map(|()| 0) })
    }

    /// Runs a prepared statement in a pipeline.
    pub(super) fn write_step<'a>(
        &'a self,
        statement: &'a tokio_postgres::Statement,
        params: &'a [Value],
    ) -> Step<'a> {
        let count = statement.params().len();
        Box::pin(
            self.client
                .execute_raw(statement, params[..count].iter().map(Param)),
        )
    }

    /// Reads rows.
    pub(super) async fn read(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, Fault> {
        let mut again = true;
        loop {
            let outcome = self.read_once(sql, params).await;
            match outcome {
                Err(fault) if again && fault.effect == Effect::Stale => {
                    self.forget();
                    again = false;
                }
                outcome => return outcome,
            }
        }
    }

    async fn read_once(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, Fault> {
        let statement = self.prepare(sql, params).await?;
        let count = statement.params().len();
        let fail = |e: tokio_postgres::Error| Fault::of(&e, sql);
        let stream = self
            .client
            .query_raw(&statement, params[..count].iter().map(Param))
            .await
            .map_err(fail)?;
        let mut stream = std::pin::pin!(stream);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await.map_err(fail)? {
            rows.push(value::row(&row)?);
        }
        Ok(rows)
    }

    /// A statement ready for these parameters, from memory if it was used before.
    pub(super) async fn prepare(
        &self,
        sql: &str,
        params: &[Value],
    ) -> Result<tokio_postgres::Statement, Fault> {
        if let Some(statement) = self.remembered(sql, params) {
            return Ok(statement);
        }
        let text = dialect::statement(sql)
            .map_err(|reason| Fault::from(DbError::Other(format!("{reason}: {sql}"))))?;
        if text.parameters > params.len() {
            return Err(DbError::Other(format!(
                "parameter {} is not one of $1..${}: {sql}",
                text.parameters,
                params.len()
            ))
            .into());
        }
        let types: Vec<Type> = params[..text.parameters]
            .iter()
            .map(value::declared)
            .collect();
        let statement = self.prepare_as(&text.sql, types, sql).await?;
        self.remember(sql, &statement);
        Ok(statement)
    }

    async fn prepare_as(
        &self,
        text: &str,
        mut types: Vec<Type>,
        sql: &str,
    ) -> Result<tokio_postgres::Statement, Fault> {
        let first = match self.client.prepare_typed(text, &types).await {
            Ok(statement) => return Ok(statement),
            Err(error) => error,
        };
        // A NULL of which nothing tells the type is as good as a text.
        let code = first.code();
        if code == Some(&SqlState::INDETERMINATE_DATATYPE) {
            for ty in &mut types {
                if *ty == Type::UNKNOWN {
                    *ty = Type::TEXT;
                }
            }
        } else if code == Some(&SqlState::UNDEFINED_FUNCTION) {
            // Functions that take narrower integers: the server knows.
            types.fill(Type::UNKNOWN);
        } else {
            return Err(Fault::of(&first, sql));
        }
        self.client
            .prepare_typed(text, &types)
            .await
            .map_err(|_| Fault::of(&first, sql))
    }

    /// Whether a statement can be used without asking the server first.
    pub(super) fn remembered(
        &self,
        sql: &str,
        params: &[Value],
    ) -> Option<tokio_postgres::Statement> {
        let mut prepared = self.memory();
        prepared.uses += 1;
        let now = prepared.uses;
        let kept = prepared.variants.get_mut(sql)?;
        kept.used = now;
        kept.variants
            .iter()
            .find(|statement| {
                let wanted = statement.params();
                wanted.len() <= params.len()
                    && wanted
                        .iter()
                        .zip(params)
                        .all(|(wanted, value)| value::fits(value, wanted))
            })
            .cloned()
    }

    fn remember(&self, sql: &str, statement: &tokio_postgres::Statement) {
        let mut prepared = self.memory();
        if prepared.variants.len() >= STATEMENTS_CACHED && !prepared.variants.contains_key(sql) {
            let oldest = prepared
                .variants
                .iter()
                .min_by_key(|(_, kept)| kept.used)
                .map(|(sql, _)| sql.clone());
            if let Some(oldest) = oldest {
                prepared.variants.remove(&oldest);
            }
        }
        let used = prepared.uses;
        prepared
            .variants
            .entry(sql.into())
            .or_insert_with(|| Kept {
                variants: Vec::new(),
                used,
            })
            .variants
            .push(statement.clone());
    }

    /// Forgets every prepared statement.
    pub(super) fn forget(&self) {
        self.memory().variants.clear();
    }

    /// The lock is held for look-ups only, never across a wait.
    fn memory(&self) -> std::sync::MutexGuard<'_, Prepared> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends all steps in their order before the answer to the first is awaited; returns all answers.
///
/// A step sends its message when it is polled for the first time, and answers come in the order of the
/// messages.
pub(super) async fn pipeline(mut steps: Vec<Step<'_>>) -> Vec<Result<u64, tokio_postgres::Error>> {
    let mut early: Vec<Option<Result<u64, tokio_postgres::Error>>> = Vec::new();
    std::future::poll_fn(|cx| {
        for step in &mut steps {
            early.push(match step.as_mut().poll(cx) {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            });
        }
        Poll::Ready(())
    })
    .await;
    let mut outcomes = Vec::with_capacity(steps.len());
    for (step, early) in steps.into_iter().zip(early) {
        outcomes.push(match early {
            Some(outcome) => outcome,
            None => step.await,
        });
    }
    outcomes
}
