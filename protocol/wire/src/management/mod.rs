//! Bodies of the management API, a module a service.
