//! Templates in the strings of a workflow: `${[encoding=url|html|plain;]REFERENCE[|default]}`. Pure.
//!
//! A text is expanded once: what a value holds is never taken for a template, so an input cannot reach for the
//! environment or for another step's answer.

use std::collections::BTreeMap;

use ambidex_wire::management::workflows::TaskResult;
use serde_json::Value;

/// An input parameter: its text and, if it was not a text, what it was.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Input {
    pub name: String,
    pub value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Value>,
}

/// What templates can refer to.
pub(crate) struct Scope<'a> {
    pub(crate) inputs: &'a [Input],
    pub(crate) environment: &'a (dyn Fn(&str) -> Option<String> + Send + Sync),
    pub(crate) results: &'a [TaskResult],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    Url,
    Html,
}

/// One `${…}`.
struct Template<'t> {
    encoding: Encoding,
    reference: &'t str,
    default: Option<&'t str>,
}

impl Scope<'_> {
    /// Expands every template of a text.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(end) = rest[start..].find('}').map(|end| start + end) else {
                break;
            };
            let Some(template) = parse(&rest[start + 2..end]) else {
                expanded.push_str(&rest[..start + 2]);
                rest = &rest[start + 2..];
                continue;
            };
            expanded.push_str(&rest[..start]);
            let value = self.value(&template);
            match template.encoding {
                Encoding::Plain => expanded.push_str(&value),
                Encoding::Url => url_encode(&value, &mut expanded),
                Encoding::Html => html_encode(&value, &mut expanded),
            }
            rest = &rest[end + 1..];
        }
        expanded.push_str(rest);
        expanded
    }

    /// Expands every text of a value. A text that is nothing but one reference to an input becomes what the input is.
    pub(crate) fn value_of(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self
                .whole(text)
                .unwrap_or_else(|| Value::String(self.text(text))),
            Value::Array(list) => list.iter().map(|item| self.value_of(item)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(key, item)| (key.clone(), self.value_of(item)))
                .collect(),
            other => other.clone(),
        }
    }

    fn whole(&self, text: &str) -> Option<Value> {
        let template = parse(text.strip_prefix("${")?.strip_suffix('}')?)?;
        if template.encoding != Encoding::Plain {
            return None;
        }
        let name = template.reference.strip_prefix("workflow.input.")?;
        let found = match self.json_input(name) {
            Some(found) => found,
            None => {
                let input = self.input(name);
                input.map(|input| {
                    input
                        .raw
                        .clone()
                        .unwrap_or_else(|| Value::String(input.value.clone()))
                })
            }
        };
        Some(found.unwrap_or_else(|| {
            template
                .default
                .map_or(Value::Null, |default| Value::String(default.to_owned()))
        }))
    }

    fn value(&self, template: &Template<'_>) -> String {
        self.look_up(template.reference)
            .unwrap_or_else(|| template.default.unwrap_or_default().to_owned())
    }

    fn look_up(&self, reference: &str) -> Option<String> {
        if let Some(name) = reference.strip_prefix("workflow.input.") {
            return match self.json_input(name) {
                Some(found) => found.map(|value| as_text(&value)),
                None => self.input(name).map(|input| input.value.clone()),
            };
        }
        if let Some(name) = reference.strip_prefix("env.") {
            return (self.environment)(name).filter(|value| !value.is_empty());
        }
        let (task, path) = reference.split_once(".json.")?;
        let result = self.results.iter().rev().find(|done| done.name == task)?;
        let output = match (&result.http_response, &result.cli) {
            (Some(answer), _) => &answer.body,
            (None, Some(cli)) => &cli.output,
            (None, None) => return None,
        };
        let document: Value = serde_json::from_str(output).ok()?;
        let found = as_text(at_path(&document, path)?);
        (!found.is_empty()).then_some(found)
    }

    fn input(&self, name: &str) -> Option<&Input> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// `NAME.jsonInput.PATH`: a part of an input. The outer `None`: this is no such reference.
    fn json_input(&self, name: &str) -> Option<Option<Value>> {
        let (input, path) = name.split_once(".jsonInput.")?;
        let input = self.input(input)?;
        let document = match &input.raw {
            Some(raw) => raw.clone(),
            None => serde_json::from_str(&input.value).unwrap_or_default(),
        };
        Some(
            at_path(&document, path)
                .filter(|found| !found.is_null())
                .cloned(),
        )
    }
}

/// The inside of `${…}`; `None` when it is no template and stays as it is.
fn parse(inside: &str) -> Option<Template<'_>> {
    let mut rest = inside;
    let mut encoding = Encoding::Plain;
    while let Some((option, after)) = rest.split_once(';') {
        let (key, value) = option.split_once('=')?;
        let words = [key, value]
            .iter()
            .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        if !words {
            break;
        }
        if key == "encoding" {
            encoding = match value {
                "url" => Encoding::Url,
                "html" => Encoding::Html,
                _ => Encoding::Plain,
            };
        }
        rest = after;
    }
    let (reference, default) = match rest.split_once('|') {
        Some((_, "")) => return None,
        Some((reference, default)) => (reference, Some(default)),
        None => (rest, None),
    };
    (!reference.is_empty() && !reference.contains(';')).then_some(Template {
        encoding,
        reference,
        default,
    })
}

/// `a.b.[0].c` or `a.b[0].c`.
fn at_path<'v>(document: &'v Value, path: &str) -> Option<&'v Value> {
    let mut found = document;
    for step in path.split('.') {
        let (key, mut indexes) = match step.find('[') {
            Some(at) => step.split_at(at),
            None => (step, ""),
        };
        if !key.is_empty() {
            found = found.get(key)?;
        }
        while let Some(rest) = indexes.strip_prefix('[') {
            let (index, after) = rest.split_once(']')?;
            found = found.get(index.parse::<usize>().ok()?)?;
            indexes = after;
        }
    }
    Some(found)
}

/// A value where a text is wanted: texts as they are, lists of plain values joined by commas, everything else in JSON
/// (reference section 7).
pub(crate) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(list) if !list.iter().any(|item| item.is_object() || item.is_array()) => {
            list.iter().map(as_text).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// Percent encoding that is right in paths and in queries alike.
fn url_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn html_encode(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
}

/// The parameters of a job from the members of an object, by name.
pub(crate) fn inputs(members: BTreeMap<String, Value>) -> Vec<Input> {
    members
        .into_iter()
        .map(|(name, value)| Input {
            name,
            value: as_text(&value),
            raw: (!value.is_string()).then_some(value),
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use ambidex_wire::management::workflows::{CliResult, HttpAnswer};
    use serde_json::json;

    fn expand(value: &Value) -> Value {
        let members = json!({
            "text": "a b&c", "empty": "", "number": 7, "list": ["x", 1], "evil": "${env.SECRET}",
            "device": {"id": "d1", "tags": [{"name": "first"}], "none": null}, "json": "{\"k\":\"v\"}",
        });
        let inputs = inputs(serde_json::from_value(members).unwrap());
        let results = [
            TaskResult {
                name: "ask".into(),
                http_response: Some(HttpAnswer {
                    status_code: 200,
                    body: r#"{"id":"i1","items":[{"n":3}]}"#.into(),
                }),
                ..TaskResult::default()
            },
            TaskResult {
                name: "run".into(),
                cli: Some(CliResult {
                    command: vec![],
                    output: r#"{"out":"o"}"#.into(),
                    error: String::new(),
                    exit_code: 0,
                }),
                ..TaskResult::default()
            },
        ];
        let environment = |name: &str| match name {
            "HOST" => Some("h:1".to_owned()),
            "BLANK" => Some(String::new()),
            "SECRET" => Some("s3cret".to_owned()),
            _ => None,
        };
        let scope = Scope {
            inputs: &inputs,
            environment: &environment,
            results: &results,
        };
        scope.value_of(value)
    }

    #[test]
    fn references_are_replaced() {
        for (template, wanted) in [
            ("plain", json!("plain")),
            ("<${workflow.input.text}>", json!("<a b&c>")),
            ("${encoding=url;workflow.input.text}", json!("a%20b%26c")),
            ("${encoding=html;workflow.input.text}", json!("a b&amp;c")),
            ("${encoding=plain;workflow.input.text}", json!("a b&c")),
            ("x${workflow.input.list}", json!("xx,1")),
            ("x${workflow.input.number}", json!("x7")),
            (
                "x${workflow.input.device.jsonInput.tags}",
                json!("x[{\"name\":\"first\"}]"),
            ),
            ("x${workflow.input.missing}y", json!("xy")),
            ("x${workflow.input.missing|d e}y", json!("xd ey")),
            ("x${workflow.input.empty|d}y", json!("xy")),
            ("http://${env.HOST|other}/", json!("http://h:1/")),
            ("${env.NONE|other:8080}", json!("other:8080")),
            ("${env.BLANK|other}", json!("other")),
            ("${ask.json.id}", json!("i1")),
            ("${ask.json.items.[0].n}", json!("3")),
            ("${ask.json.items[0].n}", json!("3")),
            ("${ask.json.none|d}", json!("d")),
            ("${run.json.out}", json!("o")),
            ("${nobody.json.id|d}", json!("d")),
            ("${unknown}", json!("")),
            ("x${workflow.input.device.jsonInput.id}", json!("xd1")),
            ("x${workflow.input.json.jsonInput.k}", json!("xv")),
            ("x${workflow.input.device.jsonInput.none|d}", json!("xd")),
            (
                "x${workflow.input.device.jsonInput.tags[0].name}",
                json!("xfirst"),
            ),
        ] {
            assert_eq!(expand(&json!(template)), wanted, "{template}");
        }
    }

    #[test]
    fn what_is_no_template_stays() {
        for text in ["${}", "${", "a ${b", "${a|}", "$text", "${encoding=url;}"] {
            assert_eq!(expand(&json!(text)), json!(text));
        }
    }

    #[test]
    fn values_are_not_templates() {
        assert_eq!(
            expand(&json!("x${workflow.input.evil}")),
            json!("x${env.SECRET}")
        );
        assert_eq!(
            expand(&json!("${workflow.input.evil}")),
            json!("${env.SECRET}")
        );
    }

    #[test]
    fn whole_references_keep_their_type() {
        let template = json!({
            "n": "${workflow.input.number}",
            "l": ["${workflow.input.list}"],
            "d": "${workflow.input.device}",
            "t": "${workflow.input.device.jsonInput.tags}",
            "m": "${workflow.input.missing}",
            "md": "${workflow.input.missing|x}",
            "s": "${workflow.input.json}",
            "k": 1,
        });
        let wanted = json!({
            "n": 7,
            "l": [["x", 1]],
            "d": {"id": "d1", "tags": [{"name": "first"}], "none": null},
            "t": [{"name": "first"}],
            "m": null,
            "md": "x",
            "s": "{\"k\":\"v\"}",
            "k": 1,
        });
        assert_eq!(expand(&template), wanted);
    }
}
