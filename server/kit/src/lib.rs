//! The HTTP kit of every service: errors, request ids, paging, accept loop, TLS
