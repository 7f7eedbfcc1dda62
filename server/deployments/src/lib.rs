//! Artifacts, releases and deployments
