//! Reader and writer of the artifact container, without files, clock or network
