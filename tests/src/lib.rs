//! Nothing but a home for `tests/`.
