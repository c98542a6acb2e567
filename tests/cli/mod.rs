//! The command line, as a user has it: the real binary, its output and its exit code.

mod agent;
mod key;
mod lifecycle;
mod repo;
mod sign;
mod story;
mod support;
mod validate;
