//! The command line: options of the reference client and of this agent, before or after the verb.

use std::{ffi::OsString, path::PathBuf};

use lexopt::{
    Arg::{Long, Short, Value},
    Parser, ValueExt as _,
};

use crate::{
    config::{Overrides, parse_log_level},
    daemon::control::Request,
};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verb {
    Daemon,
    Bootstrap,
    CheckUpdate,
    SendInventory,
    ShowArtifact,
    ShowProvides,
    Install(String),
    Commit,
    Rollback,
    Resume,
    BoardCheck,
    Status,
    Deployment(Request),
    Help(Option<String>),
    Version,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invocation {
    pub verb: Verb,
    pub overrides: Overrides,
    pub log_file: Option<PathBuf>,
    pub force_bootstrap: bool,
    pub reboot_exit_code: bool,
    pub stop_before: Vec<String>,
    pub exercise: bool,
}

/// Understands the command line; the first word is the name of the program.
///
/// # Errors
/// One sentence for the user.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, String> {
    read(Parser::from_iter(args))
}

fn read(mut parser: Parser) -> Result<Invocation, String> {
    let text = |error: lexopt::Error| error.to_string();
    let mut words: Vec<String> = Vec::new();
    let mut overrides = Overrides::default();
    let mut log_file = None;
    let (mut help, mut version) = (false, false);
    let (mut force_bootstrap, mut reboot_exit_code, mut exercise) = (false, false, false);
    let mut stop_before = Vec::new();

    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Long("help") | Short('h') => help = true,
            Long("version") | Short('v' | 'V') => version = true,
            Long("config") | Short('c') => overrides.config = Some(path(&mut parser)?),
            Long("fallback-config") | Short('b') => {
                overrides.fallback_config = Some(path(&mut parser)?)
            }
            Long("conf-dir") => overrides.conf_dir = Some(path(&mut parser)?),
            Long("data-dir") => overrides.data_dir = Some(path(&mut parser)?),
            Long("state-dir" | "datastore" | "data") | Short('d') => {
                overrides.state_dir = Some(path(&mut parser)?)
            }
            Long("trusted-certs") | Short('E') => {
                overrides.trusted_certificates = Some(path(&mut parser)?)
            }
            Long("skipverify" | "skip-verify") => overrides.skip_verify = true,
            Long("log-file") | Short('L') => log_file = Some(path(&mut parser)?),
            Long("log-level") | Short('l') => {
                let level = parser.value().and_then(|v| v.string()).map_err(text)?;
                overrides.log_level = Some(parse_log_level(&level).ok_or_else(|| {
                    format!("'{level}' is no log level; give trace, debug, info, warning, error or fatal")
                })?);
            }
            Long("forcebootstrap" | "force-bootstrap") | Short('F') => force_bootstrap = true,
            Long("reboot-exit-code") => reboot_exit_code = true,
            Long("exercise") => exercise = true,
            Long("stop-before") => {
                stop_before.push(parser.value().and_then(|v| v.string()).map_err(text)?)
            }
            Value(word) => words.push(word.string().map_err(text)?),
            other => return Err(other.unexpected().to_string()),
        }
    }

    let verb = if help {
        Verb::Help((!words.is_empty()).then(|| words.join(" ")))
    } else if version {
        Verb::Version
    } else {
        verb(&words)?
    };
    let invocation = Invocation {
        verb,
        overrides,
        log_file,
        force_bootstrap,
        reboot_exit_code,
        stop_before,
        exercise,
    };
    fits(&invocation)?;
    Ok(invocation)
}

fn path(parser: &mut Parser) -> Result<PathBuf, String> {
    parser
        .value()
        .map(PathBuf::from)
        .map_err(|error| error.to_string())
}

fn verb(words: &[String]) -> Result<Verb, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(match words.as_slice() {
        [] => Verb::Help(None),
        ["help", rest @ ..] => Verb::Help((!rest.is_empty()).then(|| rest.join(" "))),
        ["daemon"] => Verb::Daemon,
        ["bootstrap"] => Verb::Bootstrap,
        ["check-update"] => Verb::CheckUpdate,
        ["send-inventory"] => Verb::SendInventory,
        ["show-artifact"] => Verb::ShowArtifact,
        ["show-provides"] => Verb::ShowProvides,
        ["install", source] => Verb::Install((*source).to_owned()),
        ["install"] => {
            return Err("install needs a file or URL: ambidex-agent install FILE|URL".to_owned());
        }
        ["commit"] => Verb::Commit,
        ["rollback"] => Verb::Rollback,
        ["resume"] => Verb::Resume,
        ["board", "check"] => Verb::BoardCheck,
        ["status"] => Verb::Status,
        ["deployment", word] => Verb::Deployment(match *word {
            "show" => Request::Show,
            "continue" => Request::Continue,
            "pause" => Request::Pause,
            "abort" => Request::Abort,
            _ => {
                return Err(format!(
                    "'{word}' is nothing that can be done to a deployment; it is show, continue, pause or abort"
                ));
            }
        }),
        ["deployment"] => {
            return Err("deployment needs one of: show, continue, pause, abort".to_owned());
        }
        [first, ..] => {
            return Err(if super::help::is_verb(first) {
                format!("too many words after '{first}'; see ambidex-agent {first} --help")
            } else {
                format!("'{first}' is no command; ambidex-agent --help lists them")
            });
        }
    })
}

/// Options that belong to some verbs only.
fn fits(invocation: &Invocation) -> Result<(), String> {
    let verb = &invocation.verb;
    if matches!(verb, Verb::Help(_) | Verb::Version) {
        return Ok(());
    }
    if invocation.force_bootstrap && *verb != Verb::Bootstrap {
        return Err("--forcebootstrap belongs to bootstrap".to_owned());
    }
    if invocation.reboot_exit_code && !matches!(verb, Verb::Install(_) | Verb::Resume) {
        return Err("--reboot-exit-code belongs to install and resume".to_owned());
    }
    if invocation.exercise && *verb != Verb::BoardCheck {
        return Err("--exercise belongs to board check".to_owned());
    }
    let standalone = matches!(
        verb,
        Verb::Install(_) | Verb::Resume | Verb::Commit | Verb::Rollback
    );
    if !invocation.stop_before.is_empty() && !standalone {
        return Err("--stop-before belongs to install, resume, commit and rollback".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, String> {
        read(Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn options_stand_before_or_after_the_verb() {
        let before = parsed("-d /s --log-level debug install /a.mender").unwrap();
        let after = parsed("install /a.mender --data /s -l debug").unwrap();
        assert_eq!(before, after);
        assert_eq!(before.verb, Verb::Install("/a.mender".to_owned()));
        assert_eq!(
            before.overrides.state_dir.as_deref(),
            Some(std::path::Path::new("/s"))
        );
        assert_eq!(before.overrides.log_level, Some(log::LevelFilter::Debug));
    }

    #[test]
    fn every_stop_is_kept() {
        let invocation =
            parsed("resume --stop-before Cleanup --stop-before=ArtifactCommit_Enter").unwrap();
        assert_eq!(invocation.stop_before, ["Cleanup", "ArtifactCommit_Enter"]);
    }

    #[test]
    fn help_is_always_understood() {
        assert_eq!(parsed("").unwrap().verb, Verb::Help(None));
        assert_eq!(
            parsed("install --help").unwrap().verb,
            Verb::Help(Some("install".to_owned()))
        );
        assert_eq!(
            parsed("help board check").unwrap().verb,
            Verb::Help(Some("board check".to_owned()))
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (line, expected) in [
            ("instal x", "'instal' is no command"),
            ("install", "needs a file or URL"),
            ("deployment", "show, continue, pause, abort"),
            ("deployment stop", "'stop' is nothing"),
            ("commit x", "too many words"),
            ("status --stop-before Cleanup", "--stop-before belongs to"),
            ("install x --forcebootstrap", "belongs to bootstrap"),
            ("commit --reboot-exit-code", "belongs to install"),
            ("status --exercise", "belongs to board check"),
            ("daemon --log-level loud", "'loud' is no log level"),
            ("daemon --nonsense", "nonsense"),
            ("daemon --config", "config"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
