//! Foreign clients and tools against our server
