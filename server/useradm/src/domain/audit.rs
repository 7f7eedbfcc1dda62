//! Events of the audit log: who changed which user or role, and how.

use ambidex_access::UserIdentity;
use ambidex_db::{DbError, Statement};
use ambidex_kit::rfc3339;
use ambidex_wire::management::auditlogs::{Actor, Event, Object};
use serde::Serialize;

use crate::{Inner, store};

/// Changed lines beyond this are not told one by one.
const LINES_MAX: usize = 2000;

/// The statement that records an event; it belongs into the batch of the change. `None` when nobody is to be told:
/// what neighbours and the command line do is not recorded (reference: audit logs).
pub(super) async fn record(
    inner: &Inner,
    caller: &UserIdentity,
    action: &str,
    object: Object,
    change: Option<String>,
) -> Result<Statement, DbError> {
    let tenant = caller.tenant.as_str();
    let actor = match store::user::by_id(inner.db(), tenant, &caller.user_id).await? {
        Some(stored) => Actor::user_with_email(&caller.user_id, stored.user.email),
        None => Actor::user(&caller.user_id),
    };
    let mut event = Event::new(actor, rfc3339(inner.now_ms()), action, object);
    event.change = change;
    Ok(ambidex_jobs::audit(&inner.parts.jobs, tenant, &event))
}

/// A unified diff without context of two things as pretty JSON.
pub(super) fn diff<T: Serialize>(before: &T, after: &T) -> String {
    let text = |value: &T| serde_json::to_string_pretty(value).unwrap_or_default();
    let (before, after) = (text(before), text(after));
    let old: Vec<&str> = before.lines().collect();
    let new: Vec<&str> = after.lines().collect();
    let mut out = String::from("Diff:\n--- Original\n+++ Current\n");
    for hunk in hunks(&old, &new) {
        let span = |from: usize, len: usize| match len {
            // An empty range is named by the line before it.
            0 => format!("{from},0"),
            1 => (from + 1).to_string(),
            _ => format!("{},{len}", from + 1),
        };
        let (a, b) = (&old[hunk.old.clone()], &new[hunk.new.clone()]);
        out.push_str(&format!(
            "@@ -{} +{} @@\n",
            span(hunk.old.start, a.len()),
            span(hunk.new.start, b.len())
        ));
        a.iter()
            .for_each(|line| out.push_str(&format!("-{line}\n")));
        b.iter()
            .for_each(|line| out.push_str(&format!("+{line}\n")));
    }
    out
}

struct Hunk {
    old: std::ops::Range<usize>,
    new: std::ops::Range<usize>,
}

/// Where two texts differ, by their longest common subsequence; large texts as one hunk.
fn hunks(old: &[&str], new: &[&str]) -> Vec<Hunk> {
    let mut found = Vec::new();
    if old.len() > LINES_MAX || new.len() > LINES_MAX {
        if old != new {
            found.push(Hunk {
                old: 0..old.len(),
                new: 0..new.len(),
            });
        }
        return found;
    }
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let (from_i, from_j) = (i, j);
        while i < old.len() || j < new.len() {
            let both = i < old.len() && j < new.len();
            if both && old[i] == new[j] {
                break;
            }
            let skip_old = i < old.len()
                && (j >= new.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]);
            if skip_old { i += 1 } else { j += 1 }
        }
        found.push(Hunk {
            old: from_i..i,
            new: from_j..j,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn diffs_are_unified_and_have_no_context() {
        let before = json!({"email": "a@b.c", "roles": ["X"]});
        assert_eq!(diff(&before, &before), "Diff:\n--- Original\n+++ Current\n");
        assert_eq!(
            diff(&before, &json!({"email": "a@b.c", "roles": ["X", "Y"]})),
            "Diff:\n--- Original\n+++ Current\n@@ -4 +4,2 @@\n-    \"X\"\n+    \"X\",\n+    \"Y\"\n"
        );
        assert_eq!(
            diff(&json!({"a": 1, "b": 2}), &json!({"b": 2})),
            "Diff:\n--- Original\n+++ Current\n@@ -2 +1,0 @@\n-  \"a\": 1,\n"
        );
    }
}
