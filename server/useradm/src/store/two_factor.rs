//! The second factor of a user: state, sealed secret, the last code used.

use ambidex_db::{Statement, params, statement};

const BEGIN: &str =
    "UPDATE useradm_users SET tfa_status = 'unverified', tfa_secret = $3, tfa_step = 0
    WHERE tenant_id = $1 AND id = $2 AND tfa_status = 'disabled'";

const ENABLE: &str = "UPDATE useradm_users SET tfa_status = 'enabled'
    WHERE tenant_id = $1 AND id = $2 AND tfa_status = 'unverified' AND tfa_secret = $3";

const DISABLE: &str =
    "UPDATE useradm_users SET tfa_status = 'disabled', tfa_secret = NULL, tfa_step = 0
    WHERE tenant_id = $1 AND id = $2";

const USE: &str =
    "UPDATE useradm_users SET tfa_step = $3 WHERE tenant_id = $1 AND id = $2 AND tfa_step < $3";

/// Keeps a new secret unless there is one already.
pub(crate) fn begin(tenant: &str, user: &str, sealed: &str) -> Statement {
    statement(BEGIN, params![tenant, user, sealed])
}

/// Fails the batch unless this very secret waits for its first code.
pub(crate) fn enable(tenant: &str, user: &str, sealed: &str) -> Statement {
    statement(ENABLE, params![tenant, user, sealed]).expect_one()
}

pub(crate) fn disable(tenant: &str, user: &str) -> Statement {
    statement(DISABLE, params![tenant, user])
}

/// Fails the batch if this code or a later one was used before.
pub(crate) fn use_step(tenant: &str, user: &str, step: i64) -> Statement {
    statement(USE, params![tenant, user, step]).expect_one()
}
