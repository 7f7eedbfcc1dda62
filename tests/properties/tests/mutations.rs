//! Every property on its seeds and on some thousands of damaged ones, the same in every run.
//!
//! `cargo xtask fuzz` looks for inputs that break them; what it finds becomes a test of the parser.

use ambidex_properties::allocation::Counting;
use ambidex_properties::mutation::Mutator;
use ambidex_properties::target;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tells which input broke it.
struct Told<'a>(&'a str, &'a [u8]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let bytes: String = self.1.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("{} is broken by the bytes {bytes}", self.0);
        }
    }
}

fn holds(name: &str, damaged: usize) {
    let target = target(name);
    let seeds = (target.seeds)();
    let check = |bytes: &[u8]| {
        let _told = Told(name, bytes);
        (target.check)(bytes);
    };
    for seed in &seeds {
        check(seed);
    }
    check(b"");
    let mut mutator = Mutator::new(0x616d_6269_6465_7801);
    for _ in 0..damaged {
        check(&mutator.damaged(&seeds));
    }
}

#[test]
fn artifact() {
    holds("artifact", 400);
}

#[test]
fn config() {
    holds("config", 1000);
}

#[test]
fn journal() {
    holds("journal", 1000);
}

#[test]
fn module() {
    holds("module", 5000);
}

#[test]
fn session() {
    holds("session", 10_000);
}

#[test]
fn predecessor() {
    holds("predecessor", 3000);
}

#[test]
fn bootloader() {
    holds("bootloader", 3000);
}

#[test]
fn texts() {
    holds("texts", 3000);
}

#[test]
fn delta() {
    holds("delta", 1000);
}

#[test]
fn the_fuzzer_has_every_target() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    for target in ambidex_properties::TARGETS {
        let file = folder.join(format!("{}.rs", target.name));
        assert!(file.is_file(), "{} is missing", file.display());
    }
}
