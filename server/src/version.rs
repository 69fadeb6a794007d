//! The Redis whose behaviour Sluice follows.

/// As INFO and HELLO report it.
pub(crate) const REDIS_VERSION: &str = "7.0.15";
