//! `cargo xtask tidy`: what the crates never do. The rules are those of the architecture; they run as a
//! test as well, so a change that breaks one fails like any other.

mod floors;
mod sources;

use anyhow::{Result, bail};

pub fn run(arguments: Vec<String>) -> Result<()> {
    if let Some(other) = arguments.first() {
        bail!("unknown option {other}; usage: cargo xtask tidy");
    }
    let findings = findings()?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    eprintln!("tidy: no findings");
    Ok(())
}

fn findings() -> Result<Vec<String>> {
    let mut findings = floors::check()?;
    findings.extend(sources::check()?);
    Ok(findings)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let findings = super::findings().expect("the tree can be read");
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}
