//! Tokens, keys and passwords
