//! The command line, as a user has it: the real binary, its output and its exit code.

mod key;
mod lifecycle;
mod repo;
mod sdk;
mod sign;
mod support;
mod validate;
