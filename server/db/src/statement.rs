use std::borrow::Cow;

use crate::Value;

/// How many rows a statement of a batch must touch for the batch to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Any number, also none.
    Any,
    /// Exactly this many.
    Exactly(u64),
    /// This many or more.
    AtLeast(u64),
}

impl Expect {
    pub(crate) fn met(self, touched: u64) -> bool {
        match self {
            Expect::Any => true,
            Expect::Exactly(n) => touched == n,
            Expect::AtLeast(n) => touched >= n,
        }
    }
}

/// One writing statement with its parameters and its expectation.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(crate) sql: Cow<'static, str>,
    pub(crate) params: Vec<Value>,
    pub(crate) expect: Expect,
}

/// A statement that may touch any number of rows.
pub fn statement(sql: impl Into<Cow<'static, str>>, params: Vec<Value>) -> Statement {
    Statement {
        sql: sql.into(),
        params,
        expect: Expect::Any,
    }
}

impl Statement {
    /// The batch fails with [`crate::DbError::Conflict`] unless this statement touches exactly one row.
    #[must_use]
    pub fn expect_one(mut self) -> Self {
        self.expect = Expect::Exactly(1);
        self
    }

    /// The batch fails with [`crate::DbError::Conflict`] unless this statement touches `n` rows or more.
    #[must_use]
    pub fn expect_at_least(mut self, n: u64) -> Self {
        self.expect = Expect::AtLeast(n);
        self
    }

    /// Its text, for [`crate::Tx::execute`].
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Its parameters, for [`crate::Tx::execute`].
    pub fn params(&self) -> &[Value] {
        &self.params
    }
}
