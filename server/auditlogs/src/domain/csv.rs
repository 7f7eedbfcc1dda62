//! Events as lines of a table (RFC 4180).
//!
//! Cells hold exactly what the log holds: a cell that a spreadsheet would take for a formula is not
//! disguised, because the export is evidence and is read back by programs (`docs/decisions`).

use ambidex_wire::management::auditlogs::Event;

type Cell = fn(&Event) -> Option<&str>;

/// The columns in their order: the levels of the name, and where the value comes from. The order up to
/// `change` is the reference's; the time stands behind it.
const COLUMNS: [(&[&str], Cell); 12] = [
    (&["action"], |e| Some(&e.action)),
    (&["actor", "id"], |e| Some(&e.actor.id)),
    (&["actor", "type"], |e| Some(&e.actor.kind)),
    (&["actor", "email"], |e| e.actor.email.as_deref()),
    (&["actor", "identity_data"], |e| {
        e.actor.identity_data.as_deref()
    }),
    (&["object", "id"], |e| Some(&e.object.id)),
    (&["object", "type"], |e| Some(&e.object.kind)),
    (&["object", "user", "email"], |e| {
        e.object.user.as_ref().map(|user| user.email.as_str())
    }),
    (&["object", "deployment", "name"], |e| {
        e.object.deployment.as_ref().map(|d| d.name.as_str())
    }),
    (&["object", "deployment", "artifact_name"], |e| {
        let deployment = e.object.deployment.as_ref();
        deployment.map(|d| d.artifact_name.as_str())
    }),
    (&["change"], |e| e.change.as_deref()),
    (&["time"], |e| Some(&e.time)),
];

/// The columns that one export shows.
pub(crate) struct Table {
    header: Vec<String>,
    cells: Vec<Cell>,
}

impl Table {
    /// `separator` joins the levels of a column's name. `ignored` names columns to leave out, joined
    /// with dots or with the separator.
    pub(crate) fn new(separator: &str, ignored: &[&str]) -> Table {
        let mut table = Table {
            header: Vec::new(),
            cells: Vec::new(),
        };
        for (levels, cell) in COLUMNS {
            let (dotted, joined) = (levels.join("."), levels.join(separator));
            if !ignored
                .iter()
                .any(|name| *name == dotted || *name == joined)
            {
                table.header.push(joined);
                table.cells.push(cell);
            }
        }
        table
    }

    /// The first line.
    pub(crate) fn header(&self, into: &mut String) {
        line(into, self.header.iter().map(|name| Some(name.as_str())));
    }

    /// The line of one event.
    pub(crate) fn event(&self, event: &Event, into: &mut String) {
        line(into, self.cells.iter().map(|cell| cell(event)));
    }
}

fn line<'a>(into: &mut String, cells: impl Iterator<Item = Option<&'a str>>) {
    for (number, cell) in cells.enumerate() {
        if number > 0 {
            into.push(',');
        }
        match cell.unwrap_or_default() {
            plain if !plain.contains([',', '"', '\r', '\n']) => into.push_str(plain),
            text => {
                into.push('"');
                into.push_str(&text.replace('"', "\"\""));
                into.push('"');
            }
        }
    }
    into.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambidex_wire::management::auditlogs::{Actor, Object};

    fn header(separator: &str, ignored: &[&str]) -> String {
        let mut text = String::new();
        Table::new(separator, ignored).header(&mut text);
        text
    }

    #[test]
    fn the_header_is_the_references() {
        assert_eq!(
            header(".", &[]),
            "action,actor.id,actor.type,actor.email,actor.identity_data,object.id,object.type,\
             object.user.email,object.deployment.name,object.deployment.artifact_name,change,time\r\n"
        );
    }

    #[test]
    fn names_are_joined_as_asked_and_columns_left_out() {
        let text = header("_", &["actor.id", "object_user_email", "nonsense"]);
        assert!(text.starts_with("action,actor_type,actor_email,"), "{text}");
        assert!(!text.contains("object_user_email"), "{text}");
        assert!(
            text.ends_with(
                "object_deployment_name,object_deployment_artifact_name,change,time\r\n"
            )
        );
    }

    #[test]
    fn cells_are_quoted_only_where_they_must_be() {
        let event = Event::new(
            Actor::user_with_email("u1", "a@example.com"),
            "2021-02-01T10:00:00Z",
            "create",
            Object::deployment("d1", "one, \"two\"", "=1+1"),
        )
        .change("line\nline");
        let mut text = String::new();
        Table::new(".", &[]).event(&event, &mut text);
        assert_eq!(
            text,
            "create,u1,user,a@example.com,,d1,deployment,,\"one, \"\"two\"\"\",=1+1,\"line\nline\",2021-02-01T10:00:00Z\r\n"
        );
    }
}
