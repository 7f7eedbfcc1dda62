//! The database seam: one SQL text, group-committed writes
