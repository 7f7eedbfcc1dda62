//! Rules of the audit log.

pub(crate) mod csv;
pub(crate) mod record;

use ambidex_wire::management::auditlogs::Event;

/// An event as it is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) id: String,
    pub(crate) time_ms: i64,
    pub(crate) event: Event,
}

/// Order by time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    Ascending,
    #[default]
    Descending,
}

/// Which events are wanted: those that meet all that is given, exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Both bounds belong to the range.
    pub(crate) from_ms: Option<i64>,
    pub(crate) until_ms: Option<i64>,
    pub(crate) actor_id: Option<String>,
    pub(crate) actor_type: Option<String>,
    pub(crate) actor_email: Option<String>,
    pub(crate) object_id: Option<String>,
    pub(crate) object_type: Option<String>,
    pub(crate) deployment_name: Option<String>,
    pub(crate) sort: Sort,
}
