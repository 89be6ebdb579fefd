//! Asking people: for a code, and for an answer.

pub(crate) mod answers;
pub(crate) mod code;
pub(crate) mod talk;
