//! Device inventory: attributes, groups, filters
