//! HTTP: extract, call the domain, respond. One function an operation, named by its operation id.

pub(crate) mod internal;
pub(crate) mod management;

use ambidex_kit::{ApiError, QueryPairs, rfc3339};
use ambidex_wire::management::useradm as wire;

use crate::User;
use crate::domain::user::Filter;

fn view(user: User) -> wire::User {
    wire::User {
        id: user.id,
        email: user.email,
        created_ts: rfc3339(user.created_ms),
        updated_ts: rfc3339(user.updated_ms),
        login_ts: user.login_ms.map(rfc3339),
        login: user.login,
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
