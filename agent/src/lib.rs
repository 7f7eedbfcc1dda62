//! The device agent: authenticates, installs updates, survives power cuts
