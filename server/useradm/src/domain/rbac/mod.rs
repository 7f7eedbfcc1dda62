//! Roles: what they allow, and what they leave of the fleet (reference: user administration 4.1, RBAC).
//!
//! Two ways to write a role live side by side. Version 1 has single permissions: `http` ones open paths,
//! `VIEW_DEVICE` and its like narrow what the user reaches through them. Version 2 has named sets, each with a
//! scope of its own. A request is allowed if any of the user's roles opens it; what it may touch is the union
//! of the scopes of those sets that open it.

pub(crate) mod builtin;
mod decide;
mod rules;
pub(crate) mod sets;

pub(crate) use decide::{Verdict, decide, own_thing};
pub(crate) use rules::{RuleCache, Rules, check_permission};

/// Role of a user who may do everything.
pub(crate) const FULL_ACCESS: &str = "RBAC_ROLE_PERMIT_ALL";
