//! The way that goes well, and what it costs.
