//! Events on their way into the audit log.
//!
//! A service puts the statement of [`audit`] into the batch of the change that the event tells of: the event is on
//! record exactly if the change is made. The audit log's handler does the rest, in its own time.

use std::sync::atomic::{AtomicU32, Ordering};

use ambidex_db::Statement;
use ambidex_wire::management::auditlogs::Event;
use serde_json::Value;

use crate::Jobs;

/// The kind of the jobs that carry events; their payload is the event.
pub const AUDIT: &str = "audit";

/// Longest diff that an event carries, in bytes; what is beyond is cut off and said so.
const DIFF_BYTES_MAX: usize = 64 * 1024;
/// Comparisons of one line with another that a diff may cost.
const COMPARISONS_MAX: usize = 1 << 22;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The statement that puts an event on its way. It belongs into the batch of the change that the event tells of;
/// call [`Jobs::wake`] after the commit.
pub fn audit(jobs: &Jobs, tenant: &str, event: &Event) -> Statement {
    // Events of one moment are shown in the order of their ids, so these grow.
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let random = ambidex_kit::new_id().simple().to_string();
    let id = format!("{:012x}-{number:08x}-{}", jobs.now_ms(), &random[..12]);
    // Plain data without maps of other keys than text: it always has a JSON form.
    let payload = serde_json::to_value(event).unwrap_or(Value::Null);
    jobs.enqueue_with_id(AUDIT, tenant, &id, &payload)
}

/// What changed between two states of a thing, for an event's `change`: a unified diff without context of the two as
/// indented JSON, from the line `--- Original` on. Empty when they are equal.
pub fn diff(before: &Value, after: &Value) -> String {
    let (before, after) = (lines(before), lines(after));
    if before == after {
        return String::new();
    }
    let mut text = String::from("--- Original\n+++ Current\n");
    for (old, new) in hunks(&before, &after) {
        text.push_str(&format!(
            "@@ -{} +{} @@\n",
            range(old.0, old.1),
            range(new.0, new.1)
        ));
        for (sign, lines) in [('-', &before[old.0..old.1]), ('+', &after[new.0..new.1])] {
            for line in lines {
                text.push(sign);
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    if text.len() > DIFF_BYTES_MAX {
        let mut end = DIFF_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("\n(cut off)\n");
    }
    text
}

fn lines(value: &Value) -> Vec<String> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A range of lines as the header of a hunk names it: a length of one is left out, an empty range names the line
/// before it.
fn range(start: usize, end: usize) -> String {
    match end - start {
        1 => (start + 1).to_string(),
        0 => format!("{start},0"),
        length => format!("{},{length}", start + 1),
    }
}

type Range = (usize, usize);

/// The ranges that differ, by the longest common subsequence of what is between the common ends.
fn hunks(before: &[String], after: &[String]) -> Vec<(Range, Range)> {
    let head = before
        .iter()
        .zip(after)
        .take_while(|(old, new)| old == new)
        .count();
    let tail = before[head..]
        .iter()
        .rev()
        .zip(after[head..].iter().rev())
        .take_while(|(old, new)| old == new)
        .count();
    let old = &before[head..before.len() - tail];
    let new = &after[head..after.len() - tail];
    if old.len().saturating_mul(new.len()) > COMPARISONS_MAX {
        // Too much to compare: true, if not short.
        return vec![((head, head + old.len()), (head, head + new.len()))];
    }
    // common[i][j]: lines that old[i..] and new[j..] have in common.
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
    let mut found = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        let (from_i, from_j) = (i, j);
        while (i < old.len() || j < new.len())
            && !(i < old.len() && j < new.len() && old[i] == new[j])
        {
            let down = i < old.len()
                && (j == new.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]);
            if down {
                i += 1;
            } else {
                j += 1;
            }
        }
        if (i, j) != (from_i, from_j) {
            found.push(((head + from_i, head + i), (head + from_j, head + j)));
        }
        while i < old.len() && j < new.len() && old[i] == new[j] {
            i += 1;
            j += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_of_roles_reads_as_the_references_example() {
        let user = |roles: Value| json!({"a": 1, "b": 2, "roles": roles});
        let before = user(json!(["RBAC_ROLE_OBSERVER"]));
        let after = user(json!(["RBAC_ROLE_OBSERVER", "RBAC_ROLE_PERMIT_ALL"]));
        assert_eq!(
            diff(&before, &after),
            "--- Original\n+++ Current\n@@ -5 +5,2 @@\n-    \"RBAC_ROLE_OBSERVER\"\n\
             +    \"RBAC_ROLE_OBSERVER\",\n+    \"RBAC_ROLE_PERMIT_ALL\"\n"
        );
    }

    #[test]
    fn hunks_are_apart_and_empty_ranges_name_the_line_before() {
        let before = json!({"a": 1, "b": 2, "c": 3, "e": 5});
        let after = json!({"a": 1, "b": 0, "c": 3, "d": 4, "e": 5});
        assert_eq!(
            diff(&before, &after),
            "--- Original\n+++ Current\n@@ -3 +3 @@\n-  \"b\": 2,\n+  \"b\": 0,\n@@ -4,0 +5 @@\n+  \"d\": 4,\n"
        );
        assert_eq!(
            diff(&after, &before).lines().nth(5),
            Some("@@ -5 +4,0 @@"),
            "the other way round"
        );
    }

    #[test]
    fn equal_things_have_no_diff_and_huge_ones_an_end() {
        assert_eq!(diff(&json!({"a": [1]}), &json!({"a": [1]})), "");
        let many = |start: usize| json!((start..start + 5_000).collect::<Vec<_>>());
        let text = diff(&many(0), &many(10_000));
        assert!(text.starts_with("--- Original\n+++ Current\n@@ -2,5000 +2,5000 @@\n"));
        assert!(text.ends_with("(cut off)\n") && text.len() < DIFF_BYTES_MAX + 20);
    }
}
