//! A role made ready to decide: patterns compiled, limits collected.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ambidex_wire::management::useradm::{Permission, ScopedPermissionSet};
use regex::{Regex, RegexBuilder};

use super::sets::{self, SetKind};

const ACTION_ANY: &str = "any";
const ACTION_HTTP: &str = "http";
const METHODS: [&str; 6] = ["any", "GET", "POST", "PUT", "PATCH", "DELETE"];
/// Patterns are for paths; a longer one is a mistake or an attack.
const PATTERN_BYTES_MAX: usize = 1024;
/// Memory of one compiled pattern. Matching takes linear time whatever the pattern.
const COMPILED_BYTES_MAX: usize = 256 * 1024;
/// Names of groups and ids of devices.
const NAME_BYTES_MAX: usize = 1024;
/// Roles kept compiled; beyond that the memory starts anew.
const CACHED_MAX: usize = 2048;

/// A role ready to decide.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Everything is allowed.
    pub(super) everything: bool,
    pub(super) http: Vec<HttpRule>,
    pub(super) view: Limit,
    pub(super) deploy: Limit,
    pub(super) connect: Limit,
    pub(super) sets: Vec<SetRules>,
}

#[derive(Debug)]
pub(super) struct HttpRule {
    /// `None` for all methods.
    method: Option<String>,
    pattern: Regex,
}

/// Named groups and devices that something is limited to.
#[derive(Debug, Default, Clone)]
pub(super) struct Limit {
    /// The limit is named and contains everything.
    pub(super) everything: bool,
    pub(super) groups: Vec<String>,
    pub(super) devices: Vec<String>,
}

#[derive(Debug)]
pub(super) struct SetRules {
    pub(super) kind: SetKind,
    /// `None` for everything.
    pub(super) scope: Option<Vec<String>>,
    http: Vec<HttpRule>,
}

impl HttpRule {
    fn new(permission: &Permission) -> Result<HttpRule, String> {
        Ok(HttpRule {
            method: (permission.object.kind != "any").then(|| permission.object.kind.clone()),
            pattern: compile(&permission.object.value)?,
        })
    }

    /// The pattern is searched in the whole URI, but what it finds must begin in the path: else anybody could
    /// put an allowed path into the query of a forbidden request.
    fn opens(&self, method: &str, uri: &str) -> bool {
        let path = uri.find(['?', '#']).unwrap_or(uri.len());
        self.method.as_deref().is_none_or(|wanted| wanted == method)
            && self
                .pattern
                .find(uri)
                .is_some_and(|found| found.start() < path)
    }
}

impl Limit {
    pub(super) fn is_set(&self) -> bool {
        self.everything || !self.groups.is_empty() || !self.devices.is_empty()
    }

    pub(super) fn merge(&mut self, other: &Limit) {
        self.everything |= other.everything;
        self.groups.extend(other.groups.iter().cloned());
        self.devices.extend(other.devices.iter().cloned());
    }

    fn add(&mut self, permission: &Permission) {
        match permission.object.kind.as_str() {
            "DEVICE_GROUP" => self.groups.push(permission.object.value.clone()),
            "DEVICE_ID" => self.devices.push(permission.object.value.clone()),
            _ => self.everything = true,
        }
    }
}

impl SetRules {
    pub(super) fn opens(&self, method: &str, uri: &str) -> bool {
        self.http.iter().any(|rule| rule.opens(method, uri))
    }
}

impl Rules {
    /// Compiles a role. What does not compile (it was checked when it was written) allows nothing.
    pub(crate) fn compile(permissions: &[Permission], sets: &[ScopedPermissionSet]) -> Rules {
        let mut rules = Rules::default();
        for permission in permissions {
            match permission.action.as_str() {
                ACTION_ANY => rules.everything = true,
                ACTION_HTTP => match HttpRule::new(permission) {
                    Ok(rule) => rules.http.push(rule),
                    Err(reason) => tracing::warn!(
                        pattern = permission.object.value,
                        "a permission is ignored: {reason}"
                    ),
                },
                "VIEW_DEVICE" => rules.view.add(permission),
                "CREATE_DEPLOYMENT" => rules.deploy.add(permission),
                "REMOTE_TERMINAL" => rules.connect.add(permission),
                _ => {}
            }
        }
        // Whoever has a set of version 2 has the basic one (the user interface cannot do without it).
        let basic = (!sets.is_empty()).then(|| ScopedPermissionSet {
            name: sets::BASIC.to_owned(),
            scope: None,
        });
        for set in sets.iter().chain(basic.as_ref()) {
            let Some(known) = sets::find(&set.name) else {
                continue;
            };
            if known.everything {
                rules.everything = true;
            }
            rules.sets.push(SetRules {
                kind: known.kind,
                scope: set.scope.as_ref().map(|scope| scope.value.clone()),
                http: sets::permissions(known)
                    .iter()
                    .filter(|permission| permission.action == ACTION_HTTP)
                    .filter_map(|permission| HttpRule::new(permission).ok())
                    .collect(),
            });
        }
        rules
    }

    pub(super) fn opens(&self, method: &str, uri: &str) -> bool {
        self.everything || self.http.iter().any(|rule| rule.opens(method, uri))
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!(
            "the pattern is longer than {PATTERN_BYTES_MAX} bytes"
        ));
    }
    RegexBuilder::new(pattern)
        .size_limit(COMPILED_BYTES_MAX)
        .nest_limit(32)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the pattern is too complex".to_owned(),
            _ => "the pattern is not a regular expression".to_owned(),
        })
}

/// Whether a permission of version 1 makes sense; the text tells what does not.
pub(crate) fn check_permission(permission: &Permission) -> Result<(), String> {
    let (kind, value) = (
        permission.object.kind.as_str(),
        permission.object.value.as_str(),
    );
    match permission.action.as_str() {
        ACTION_ANY if (kind, value) == ("any", "any") => Ok(()),
        ACTION_ANY => Err("object: must be any of any for the action any.".to_owned()),
        ACTION_HTTP if !METHODS.contains(&kind) => {
            Err("type: must be any, GET, POST, PUT, PATCH or DELETE.".to_owned())
        }
        ACTION_HTTP if value.is_empty() => Err("value: cannot be blank.".to_owned()),
        ACTION_HTTP => compile(value)
            .map(|_| ())
            .map_err(|reason| format!("value: {reason}.")),
        "CREATE_DEPLOYMENT" | "VIEW_DEVICE" | "REMOTE_TERMINAL" => match kind {
            "any" if value == "any" => Ok(()),
            "DEVICE_GROUP" | "DEVICE_ID" if value.is_empty() => {
                Err("value: cannot be blank.".to_owned())
            }
            "DEVICE_GROUP" | "DEVICE_ID" if value.len() > NAME_BYTES_MAX => Err(format!(
                "value: the length must be no more than {NAME_BYTES_MAX}."
            )),
            "DEVICE_GROUP" | "DEVICE_ID" => Ok(()),
            _ => Err("type: must be DEVICE_GROUP or DEVICE_ID.".to_owned()),
        },
        "" => Err("action: cannot be blank.".to_owned()),
        _ => Err(
            "action: must be any, http, CREATE_DEPLOYMENT, VIEW_DEVICE or REMOTE_TERMINAL."
                .to_owned(),
        ),
    }
}

/// Compiled roles by their text. A changed role has another text, so nothing here is ever out of date.
#[derive(Default)]
pub(crate) struct RuleCache(Mutex<HashMap<(String, String), Arc<Rules>>>);

impl RuleCache {
    /// The rules of a role as it stands in the database: permissions and sets as JSON.
    pub(crate) fn rules(&self, permissions: &str, sets: &str) -> Arc<Rules> {
        let key = (permissions.to_owned(), sets.to_owned());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rules) = known.get(&key) {
            return Arc::clone(rules);
        }
        let rules = Arc::new(Rules::compile(
            &serde_json::from_str::<Vec<Permission>>(permissions).unwrap_or_default(),
            &serde_json::from_str::<Vec<ScopedPermissionSet>>(sets).unwrap_or_default(),
        ));
        if known.len() >= CACHED_MAX {
            known.clear();
        }
        known.insert(key, Arc::clone(&rules));
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ambidex_wire::management::useradm::PermissionObject;

    fn permission(action: &str, kind: &str, value: &str) -> Permission {
        Permission {
            action: action.to_owned(),
            object: PermissionObject {
                kind: kind.to_owned(),
                value: value.to_owned(),
            },
        }
    }

    #[test]
    fn permissions_are_checked() {
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        for (action, kind, value, fine) in [
            ("any", "any", "any", true),
            ("any", "GET", "any", false),
            ("http", "GET", "^/api/.*$", true),
            ("http", "any", ".*", true),
            ("http", "HEAD", ".*", false),
            ("http", "GET", "", false),
            ("http", "GET", "(", false),
            ("http", "GET", "(?=a)", false),
            ("http", "GET", "(a{1000}){1000}", false),
            ("http", "GET", &long, false),
            ("VIEW_DEVICE", "DEVICE_GROUP", "g", true),
            ("VIEW_DEVICE", "DEVICE_ID", "1", true),
            ("CREATE_DEPLOYMENT", "DEVICE_GROUP", "", false),
            ("REMOTE_TERMINAL", "GROUP", "g", false),
            ("REMOTE_TERMINAL", "any", "any", true),
            ("", "any", "any", false),
            ("FLY", "any", "any", false),
        ] {
            let verdict = check_permission(&permission(action, kind, value));
            assert_eq!(
                verdict.is_ok(),
                fine,
                "{action} {kind} {value}: {verdict:?}"
            );
        }
    }

    #[test]
    fn a_pattern_must_begin_in_the_path() {
        let rule = HttpRule::new(&permission("http", "GET", "/deployments/artifacts")).ok();
        let opens = |uri: &str| rule.as_ref().is_some_and(|rule| rule.opens("GET", uri));
        assert!(opens("/api/management/v1/deployments/artifacts?page=1"));
        assert!(!opens(
            "/api/management/v1/useradm/users?x=/deployments/artifacts"
        ));
        assert!(!opens("/x#/deployments/artifacts"));
        let download = HttpRule::new(&permission("http", "GET", r"/download\?path=[^&]+$")).ok();
        assert!(download.is_some_and(|rule| rule.opens("GET", "/a/download?path=/etc/hosts")));
    }

    #[test]
    fn the_cache_is_bounded_and_follows_the_text() {
        let cache = RuleCache::default();
        let one = cache.rules("[]", "[]");
        assert!(Arc::ptr_eq(&one, &cache.rules("[]", "[]")));
        let all = r#"[{"action":"any","object":{"type":"any","value":"any"}}]"#;
        assert!(!one.everything && cache.rules(all, "[]").everything);
        for n in 0..CACHED_MAX * 2 {
            cache.rules("[]", &n.to_string());
        }
        let held = cache.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        assert!(held <= CACHED_MAX, "{held}");
    }
}
