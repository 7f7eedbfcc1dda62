//! Two GRUB environment blocks with a guard variable, so that every write is atomic.
//!
//! `env1` counts unless it is damaged or its `editing` is not `0`; else `env2` counts. GRUB's
//! script follows the same rule. A write edits copy 1 under `editing=1`, releases it, then does
//! the same to copy 2; each of the four steps is flushed. Files are written in place and never
//! truncated: on a FAT file system anything else opens a window without any file.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ambidex_platform::fs::{self, Context, FsError};

use super::grub_block::{GRUB_BLOCK_BYTES, decode, encode};
use super::{BootError, merge};

type Block = [u8; GRUB_BLOCK_BYTES];

const GUARD: &str = "editing";

/// The pair of blocks in one directory.
#[derive(Debug, Clone)]
pub struct GrubEnv {
    copies: [PathBuf; 2],
}

/// What a copy holds: its variables without the guard, or why it does not count.
type Content = Result<Vec<(String, String)>, String>;

impl GrubEnv {
    /// Names the pair; touches no file.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        Self {
            copies: [dir.join("env1"), dir.join("env2")],
        }
    }

    pub(super) fn is_present(dir: &Path) -> bool {
        Self::open(dir).copies.iter().any(|copy| copy.is_file())
    }

    pub(super) fn read(&self) -> Result<BTreeMap<String, String>, BootError> {
        Ok(self.current()?.0.into_iter().collect())
    }

    /// Writes the changes as a sequence of in-place block writes, each flushed.
    pub(super) fn write(&self, changes: &[(&str, &str)]) -> Result<(), BootError> {
        for (copy, block) in self.steps(changes)? {
            write_block(&self.copies[copy], &block)?;
        }
        Ok(())
    }

    /// The block writes that carry the changes out: which copy, and its new content.
    fn steps(&self, changes: &[(&str, &str)]) -> Result<Vec<(usize, Block)>, BootError> {
        let (mut vars, second_agrees) = self.current()?;
        let mut steps = Vec::with_capacity(5);
        if !second_agrees {
            // copy 1 is about to be guarded: what copy 2 says must be the present truth by then
            steps.push((1, image(&vars, "0")?));
        }
        merge(&mut vars, changes);
        for copy in [0, 1] {
            steps.push((copy, image(&vars, "1")?));
            steps.push((copy, image(&vars, "0")?));
        }
        Ok(steps)
    }

    /// The variables that count, and whether copy 2 alone would tell the same.
    fn current(&self) -> Result<(Vec<(String, String)>, bool), BootError> {
        let first = read_copy(&self.copies[0])?;
        let second = read_copy(&self.copies[1])?;
        match (first, second) {
            (Ok(vars), second) => {
                let agrees = second.as_ref() == Ok(&vars);
                Ok((vars, agrees))
            }
            (Err(reason), Ok(vars)) => {
                log::warn!("{reason}; using the second copy, the next write repairs the first");
                Ok((vars, true))
            }
            (Err(first), Err(second)) => Err(BootError::Damaged(format!("{first}; {second}"))),
        }
    }
}

fn read_copy(path: &Path) -> Result<Content, FsError> {
    let bytes = match fs::read_if_present(path, GRUB_BLOCK_BYTES as u64) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Err(format!("{} does not exist", path.display()))),
        // larger than a block, or unreadable sectors: this copy does not count, the other may
        Err(error) if error.cause.kind() != io::ErrorKind::PermissionDenied => {
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    let Some(mut vars) = decode(&bytes) else {
        return Ok(Err(format!(
            "{} is not a valid environment block",
            path.display()
        )));
    };
    let guard = vars
        .iter()
        .position(|(name, _)| name == GUARD)
        .map(|at| vars.remove(at).1);
    Ok(match guard.as_deref() {
        Some("0") => Ok(vars),
        // GRUB presets editing=1 before it loads a copy, so a missing guard counts as set
        _ => Err(format!("{} was being edited", path.display())),
    })
}

/// The guard comes first: then not even a write torn at an arbitrary byte shows new values
/// without it.
fn image(vars: &[(String, String)], guard: &str) -> Result<Block, BootError> {
    let mut all = vec![(GUARD.to_owned(), guard.to_owned())];
    all.extend_from_slice(vars);
    encode(&all).map_err(|bytes| {
        BootError::Values(format!(
            "they take {bytes} bytes of the GRUB environment block; 512 are the most that a power cut cannot tear"
        ))
    })
}

fn write_block(path: &Path, block: &Block) -> Result<(), FsError> {
    let fresh = !path.exists();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .context("open", path)?;
    let length = file.metadata().context("inspect", path)?.len();
    file.write_all_at(block, 0).context("write", path)?;
    if length > GRUB_BLOCK_BYTES as u64 {
        file.set_len(GRUB_BLOCK_BYTES as u64)
            .context("cut to one block", path)?;
    }
    file.sync_all().context("flush", path)?;
    if fresh && let Some(dir) = path.parent() {
        fs::sync_dir(dir)?;
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    const OLD: [(&str, &str); 3] = [
        ("mender_boot_part", "2"),
        ("upgrade_available", "0"),
        ("bootcount", "0"),
    ];
    const NEW: [(&str, &str); 4] = [
        ("mender_boot_part", "3"),
        ("mender_boot_part_hex", "3"),
        ("upgrade_available", "1"),
        ("bootcount", "0"),
    ];

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        owned(pairs).into_iter().collect()
    }

    fn fresh() -> (tempfile::TempDir, GrubEnv) {
        let dir = tempfile::tempdir().unwrap();
        let env = GrubEnv::open(dir.path());
        for copy in &env.copies {
            std::fs::write(copy, image(&owned(&OLD), "0").unwrap()).unwrap();
        }
        (dir, env)
    }

    #[test]
    fn changes_reach_both_copies_and_others_stay() {
        let (_dir, env) = fresh();
        env.write(&[("extra", "kept")]).unwrap();
        env.write(&NEW).unwrap();
        let mut wanted = map(&NEW);
        wanted.insert("extra".into(), "kept".into());
        assert_eq!(env.read().unwrap(), wanted);
        std::fs::remove_file(&env.copies[0]).unwrap();
        assert_eq!(env.read().unwrap(), wanted);
        for copy in &env.copies {
            assert!(!copy.exists() || std::fs::metadata(copy).unwrap().len() == 1024);
        }
    }

    #[test]
    fn a_damaged_copy_does_not_matter_and_is_healed_by_the_next_write() {
        for damaged in [0, 1] {
            for junk in [&b""[..], b"junk", &[0; 1024], &[b'#'; 2000]] {
                let (_dir, env) = fresh();
                std::fs::write(&env.copies[damaged], junk).unwrap();
                assert_eq!(env.read().unwrap(), map(&OLD));
                env.write(&NEW).unwrap();
                std::fs::remove_file(&env.copies[1 - damaged]).unwrap();
                assert_eq!(
                    env.read().unwrap(),
                    map(&NEW),
                    "copy {damaged} was not healed"
                );
            }
        }
    }

    #[test]
    fn both_damaged_is_an_error_that_names_them() {
        let (_dir, env) = fresh();
        for copy in &env.copies {
            std::fs::write(copy, b"junk").unwrap();
        }
        let text = env.read().unwrap_err().to_string();
        assert!(text.contains("env1") && text.contains("env2"), "{text}");
    }

    /// Runs the write from each possible start, cuts it at every byte of every step, and checks
    /// that a reader sees the old or the new values, and the new ones for good once they appear.
    #[test]
    fn a_power_cut_anywhere_leaves_the_old_or_the_new_values() {
        let old = image(&owned(&OLD), "0").unwrap();
        let stale = image(
            &owned(&[("mender_boot_part", "9"), ("upgrade_available", "1")]),
            "0",
        )
        .unwrap();
        let starts: [[&[u8]; 2]; 5] = [
            [&old, &old],
            [&old, b"junk"],
            [b"junk", &old],
            [&old, &stale],
            [&old, &[0; 1024]],
        ];
        for start in starts {
            let (_dir, env) = fresh();
            let restore = |images: &[Vec<u8>; 2]| {
                for (copy, image) in env.copies.iter().zip(images) {
                    std::fs::write(copy, image).unwrap();
                }
            };
            let mut disk = [start[0].to_vec(), start[1].to_vec()];
            restore(&disk);
            let steps = env.steps(&NEW).unwrap();
            let mut seen_new = false;
            for (copy, block) in steps {
                // every byte of the variables; behind them all blocks are the same padding
                for cut in (0..=150).chain([511, 512, 513, 1023, 1024]) {
                    let mut torn = disk.clone();
                    torn[copy].resize(torn[copy].len().max(cut), 0);
                    torn[copy][..cut].copy_from_slice(&block[..cut]);
                    restore(&torn);
                    let seen = env.read().unwrap();
                    if seen == map(&NEW) {
                        seen_new = true;
                    } else {
                        assert!(
                            !seen_new && seen == map(&OLD),
                            "copy {copy} cut at {cut}: {seen:?}"
                        );
                    }
                }
                disk[copy] = block.to_vec();
            }
            assert!(seen_new);
        }
    }

    #[test]
    fn values_that_do_not_fit_change_nothing() {
        let (_dir, env) = fresh();
        let text = env
            .write(&[("big", &"x".repeat(600))])
            .unwrap_err()
            .to_string();
        assert!(text.contains("512"), "{text}");
        assert_eq!(env.read().unwrap(), map(&OLD));
    }

    #[test]
    fn grub_editenv_agrees_with_us() {
        let Some(program) = fs::find_program("grub-editenv") else {
            ambidex_harness::skip("grub-editenv is not installed (Debian package grub-common)");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let env = GrubEnv::open(dir.path());
        let run = |copy: &Path, args: &[&str]| {
            let out = std::process::Command::new(&program)
                .arg(copy)
                .args(args)
                .output()
                .unwrap();
            assert!(out.status.success(), "{out:?}");
            String::from_utf8(out.stdout).unwrap()
        };
        for copy in &env.copies {
            run(copy, &["create"]);
            run(
                copy,
                &["set", "editing=0", "mender_boot_part=2", "odd=a\\b c"],
            );
        }
        assert_eq!(env.read().unwrap()["odd"], "a\\b c");
        env.write(&NEW).unwrap();
        for copy in &env.copies {
            let listed = run(copy, &["list"]);
            for line in [
                "editing=0",
                "mender_boot_part=3",
                "upgrade_available=1",
                "odd=a\\b c",
            ] {
                assert!(
                    listed.lines().any(|l| l == line),
                    "{line} missing in {listed}"
                );
            }
            run(copy, &["unset", "odd"]);
        }
        assert!(!env.read().unwrap().contains_key("odd"));
    }
}
