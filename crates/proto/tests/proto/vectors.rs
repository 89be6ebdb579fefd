//! Vectors.
pub(crate) mod presence;
pub(crate) mod record;
pub(crate) mod spec;
