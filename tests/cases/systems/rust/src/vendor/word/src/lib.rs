//! A word.

/// What is said.
pub fn word() -> &'static str {
    "hello"
}
