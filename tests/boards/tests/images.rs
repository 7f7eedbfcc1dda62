//! The same inputs give the same image, so a hash tells what a board was made of.

use std::path::Path;

use ambidex_harness::board::Kind;
use ambidex_harness::{Lab, flow};
use anyhow::{Context as _, Result, ensure};

/// Compares without holding either in memory.
fn differ_at(one: &Path, other: &Path) -> Result<Option<u64>> {
    use std::io::Read as _;
    let open = |path: &Path| {
        std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))
    };
    let (mut first, mut second) = (open(one)?, open(other)?);
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let bytes = first.metadata()?.len();
    ensure!(
        bytes == second.metadata()?.len(),
        "they have different sizes"
    );
    let mut at = 0;
    while at < bytes {
        let length = usize::try_from(bytes - at)?.min(a.len());
        first.read_exact(&mut a[..length])?;
        second.read_exact(&mut b[..length])?;
        if let Some(offset) = a.iter().zip(&b).position(|(a, b)| a != b) {
            return Ok(Some(at + offset as u64));
        }
        at += length as u64;
    }
    Ok(None)
}

fn made_twice(kind: Kind) {
    flow(&kind.flow("images"), async |scratch| {
        let Some(lab) = Lab::open_or_skip(kind).await? else {
            return Ok(());
        };
        // each makes every file anew, at another time and with other inode numbers
        let one = lab.make_again(&scratch.join("one")).await?;
        let other = lab.make_again(&scratch.join("other")).await?;
        for (one, other) in one.iter().zip(&other) {
            let difference = differ_at(one, other)?;
            ensure!(
                difference.is_none(),
                "{} and {} differ at byte {difference:?}",
                one.display(),
                other.display()
            );
        }
        Ok(())
    });
}

#[test]
fn the_same_inputs_give_the_same_x86_64_board() {
    made_twice(Kind::X86_64Grub);
}

#[test]
fn the_same_inputs_give_the_same_aarch64_board() {
    made_twice(Kind::Aarch64Uboot);
}

#[test]
fn the_same_inputs_give_the_same_armv7_board() {
    made_twice(Kind::Armv7Uboot);
}

#[test]
fn the_same_inputs_give_the_same_raspberry_pi() {
    made_twice(Kind::RaspberryPi);
}
