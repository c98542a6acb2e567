//! Admission: what is enforced (index), and the webhook that asks it.
//!
//! No network or disk is touched while a request is answered: everything is read from memory that watches keep true.

pub mod bindings;
pub mod hold;
pub mod index;
pub mod liveness;
