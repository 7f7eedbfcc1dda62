//! Users, login and settings
