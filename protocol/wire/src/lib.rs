//! Bodies, ids and enums of the REST API: the one definition both ends derive from
