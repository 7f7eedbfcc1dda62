//! What the audit log is told of changes to artifacts, releases and deployments.
//!
//! Each statement goes into the batch of the change itself, so that the log tells of a change exactly if
//! it happened.

use ambidex_access::{TenantId, UserIdentity};
use ambidex_db::Statement;
use ambidex_kit::rfc3339;
use ambidex_wire::management::auditlogs::{Actor, Event, Object};

use super::deployment::Deployment;
use crate::Context;

pub const CREATE: &str = "create";
pub const UPDATE: &str = "update";
pub const DELETE: &str = "delete";
pub const ABORT: &str = "abort";
pub const UPLOAD: &str = "upload";

fn statement(context: &Context, tenant: &TenantId, event: &Event) -> Statement {
    ambidex_jobs::audit(&context.jobs, tenant.as_str(), event)
}

fn event(context: &Context, user_id: &str, action: &str, object: Object) -> Event {
    Event::new(
        Actor::user(user_id),
        rfc3339(context.clock.now_ms()),
        action,
        object,
    )
}

/// Something was done to a deployment.
pub fn deployment(
    context: &Context,
    user: &UserIdentity,
    action: &str,
    deployment: &Deployment,
) -> Statement {
    let object = Object::deployment(
        deployment.id.as_str(),
        deployment.name.as_str(),
        deployment.artifact_name.as_str(),
    );
    let event = event(context, &user.user_id, action, object);
    statement(context, &user.tenant, &event)
}

/// Something was done to an artifact.
pub fn artifact(
    context: &Context,
    user: &UserIdentity,
    action: &str,
    id: &str,
    name: &str,
) -> Statement {
    artifact_by(context, (&user.tenant, &user.user_id), action, id, name)
}

/// As [`artifact`], for work that goes on after the user has gone.
pub fn artifact_by(
    context: &Context,
    (tenant, user_id): (&TenantId, &str),
    action: &str,
    id: &str,
    name: &str,
) -> Statement {
    let object = Object::artifact(id, name);
    let event = event(context, user_id, action, object);
    statement(context, tenant, &event)
}

/// Something was noted about a release.
pub fn release(context: &Context, user: &UserIdentity, name: &str, change: String) -> Statement {
    let object = Object::other("release", name);
    let event = event(context, &user.user_id, UPDATE, object).change(change);
    statement(context, &user.tenant, &event)
}

/// Something was done to a device's part in deployments.
pub fn device(
    context: &Context,
    user: &UserIdentity,
    action: &str,
    id: &str,
    change: &str,
) -> Statement {
    let object = Object::device(id, None);
    let event = event(context, &user.user_id, action, object).change(change);
    statement(context, &user.tenant, &event)
}
