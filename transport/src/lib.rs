//! (being written)

pub mod frame;
pub mod primary;
pub mod replica;
pub mod replid;
pub mod state;
pub mod wire;
