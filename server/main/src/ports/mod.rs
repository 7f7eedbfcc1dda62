//! What the services need from each other, answered by calling the neighbour in this process. One file
//! a consumer.

pub(crate) mod accounts;
pub(crate) mod auditlogs;
pub(crate) mod deployments;
pub(crate) mod devauth;
pub(crate) mod deviceconfig;
pub(crate) mod deviceconnect;
pub(crate) mod loopback;
pub(crate) mod useradm;
pub(crate) mod workflows;

/// The whole chain of an error as one text, for a port's error.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
