//! What source files may contain, and where.
//!
//! These are searches in text, not in syntax: a line comment that names a forbidden word is left alone, a
//! `#[cfg(test)]` module at the end of a file is not looked at.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace;

/// More than one story: split it.
const LINES_MAX: usize = 800;
/// Names that say nothing.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "misc", "manager"];
const FOLDERS: [&str; 7] = [
    "agent",
    "cli",
    "protocol",
    "server",
    "tests",
    "update-modules",
    "xtask",
];

/// A word that only some places may use.
struct Rule {
    /// Start of the paths the rule is about.
    scope: &'static str,
    words: &'static [&'static str],
    /// Parts of paths where the words are at home.
    allowed: &'static [&'static str],
    reason: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        scope: "server/",
        words: &["\"SELECT ", "\"INSERT INTO ", "\"UPDATE ", "\"DELETE FROM "],
        allowed: &["/store/", "/store.rs", "server/db/", "/tests/"],
        reason: "only store modules contain SQL",
    },
    Rule {
        scope: "server/",
        words: &["axum::"],
        // access has the extractors, a service's lib.rs hands out its routes
        allowed: &[
            "/api/",
            "/api.rs",
            "/src/lib.rs",
            "server/kit/",
            "server/access/",
            "server/main/",
            "/tests/",
        ],
        reason: "only api modules name axum",
    },
    Rule {
        scope: "server/",
        words: &["Db::open_sqlite"],
        allowed: &["server/db/", "server/main/"],
        reason: "tests open their database with ambidex_testdb, which knows both engines",
    },
    Rule {
        scope: "agent/src/",
        words: &["nix::", "std::process::Command", "SystemTime"],
        allowed: &["agent/src/platform"],
        reason: "only agent/src/platform talks to the operating system",
    },
];

pub fn check() -> Result<Vec<String>> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&workspace::root().join(folder), &mut files)?;
    }
    files.sort();
    let mut findings = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let relative = path
            .strip_prefix(workspace::root())
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        findings.extend(findings_in(&relative, &text));
    }
    Ok(findings)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry
            .with_context(|| format!("reading {}", folder.display()))?
            .path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if !matches!(name, "target" | "node_modules" | "dist") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn findings_in(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.push(format!(
            "{path}: {lines} lines, more than {LINES_MAX}: split it by noun"
        ));
    }
    let stem = Path::new(path)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) || path.split('/').any(|part| EMPTY_NAMES.contains(&part)) {
        findings.push(format!(
            "{path}: the name says nothing about the content: use a noun of the domain"
        ));
    }
    let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let shipped = shipped
        .split("#[cfg(test)]\n#[expect")
        .next()
        .unwrap_or(shipped);
    for rule in RULES {
        if !path.starts_with(rule.scope) || rule.allowed.iter().any(|place| path.contains(place)) {
            continue;
        }
        for (number, line) in shipped.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            if let Some(word) = rule.words.iter().find(|word| names(line, word)) {
                findings.push(format!("{path}:{}: {} ({word})", number + 1, rule.reason));
            }
        }
    }
    findings
}

/// Whether the line has the word, and not as the end of a longer one (`unix::` is not `nix::`).
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        word.starts_with('"') || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_to_their_places() {
        let unix = "use std::os::unix::fs::PermissionsExt;\nuse nix::unistd::Pid;\n";
        assert_eq!(findings_in("agent/src/identity/key.rs", unix).len(), 1);
        let sql = "const S: &str = \"SELECT id FROM devices\";\n";
        assert_eq!(
            findings_in("server/devauth/src/domain/device.rs", sql).len(),
            1
        );
        assert_eq!(
            findings_in("server/devauth/src/store/device.rs", sql).len(),
            0
        );
        let clock = "// SystemTime is not for us\nlet now = SystemTime::now();\n";
        assert_eq!(
            findings_in("agent/src/daemon/mod.rs", clock),
            [
                "agent/src/daemon/mod.rs:2: only agent/src/platform talks to the operating system (SystemTime)"
            ]
        );
        assert_eq!(findings_in("agent/src/platform/clock.rs", clock).len(), 0);
        let in_test = "#[cfg(test)]\nmod tests { use std::time::SystemTime; }\n";
        assert_eq!(findings_in("agent/src/daemon/mod.rs", in_test).len(), 0);
    }

    #[test]
    fn long_files_and_empty_names_are_found() {
        assert_eq!(findings_in("cli/src/utils.rs", "").len(), 1);
        assert_eq!(findings_in("cli/src/login.rs", &"\n".repeat(801)).len(), 1);
        assert_eq!(findings_in("cli/src/login.rs", &"\n".repeat(800)).len(), 0);
    }
}
