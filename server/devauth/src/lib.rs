//! Device authentication: identities, auth sets, tokens
