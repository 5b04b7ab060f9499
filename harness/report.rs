//! Records to everything that a person or a machine reads. Pure: records in, text out.

pub mod human;
pub mod json;
#[cfg(feature = "cli")]
pub mod pcapng;
