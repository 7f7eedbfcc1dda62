//! Tenants and their tokens
