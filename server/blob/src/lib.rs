//! Artifact storage and signed links
