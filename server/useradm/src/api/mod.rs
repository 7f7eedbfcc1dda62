//! HTTP: extract, call the domain, respond. One function an operation, named by its operation id.

pub(crate) mod account;
pub(crate) mod address;
pub(crate) mod internal;
pub(crate) mod plans;
pub(crate) mod roles;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod users;
pub(crate) mod v2;

use ambidex_kit::{ApiError, QueryPairs, rfc3339};
use ambidex_wire::management::useradm as wire;
use axum::Router;

use crate::domain::user::Filter;
use crate::{User, Useradm};

/// Version 1 of the management API.
const BASE: &str = "/api/management/v1/useradm";

/// Routes of the public listener.
pub(crate) fn routes(useradm: Useradm) -> Router {
    sessions::routes()
        .merge(users::routes())
        .merge(roles::routes())
        .merge(settings::routes())
        .merge(account::routes())
        .merge(plans::routes())
        .merge(v2::routes())
        .with_state(useradm)
}

fn view(user: User) -> wire::User {
    wire::User {
        id: user.id,
        email: user.email,
        created_ts: rfc3339(user.created_ms),
        updated_ts: rfc3339(user.updated_ms),
        login_ts: user.login_ms.map(rfc3339),
        login: user.login,
        roles: user.roles,
        verified: user.verified,
        tfa_status: user.two_factor.name().to_owned(),
    }
}

/// The user that a path names: `me` is the caller.
fn me<'a>(id: &'a str, caller: &'a str) -> &'a str {
    if id.eq_ignore_ascii_case("me") {
        caller
    } else {
        id
    }
}

/// The filter of a list of users, from the query.
fn filter(query: &QueryPairs) -> Result<Filter, ApiError> {
    let number = |name: &str| {
        query
            .first(name)
            .map(|text| {
                text.parse::<i64>().map_err(|_| {
                    ApiError::bad_request(format!(
                        "api: invalid form values: invalid form parameter \"{name}\": \"{text}\" is not a number"
                    ))
                })
            })
            .transpose()
    };
    Ok(Filter {
        ids: query.all("id").map(str::to_owned).collect(),
        emails: query.all("email").map(str::to_owned).collect(),
        created_after: number("created_after")?,
        created_before: number("created_before")?,
        updated_after: number("updated_after")?,
        updated_before: number("updated_before")?,
    })
}
