//! (being written)

pub mod encoding;
pub mod glob;
pub mod num;
pub mod value;
