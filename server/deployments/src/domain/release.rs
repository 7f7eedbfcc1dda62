//! Releases: artifacts grouped by name. A view, nothing is stored.

use ambidex_wire::management::deployments::{Artifact, Release};

/// Groups artifacts that are sorted by name.
pub fn group(artifacts: impl IntoIterator<Item = Artifact>) -> Vec<Release> {
    let mut releases: Vec<Release> = Vec::new();
    for artifact in artifacts {
        match releases.last_mut() {
            Some(release) if release.name == artifact.name => release.artifacts.push(artifact),
            _ => releases.push(Release {
                name: artifact.name.clone(),
                artifacts: vec![artifact],
            }),
        }
    }
    releases
}
