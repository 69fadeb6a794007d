//! (being written)

pub mod frame;
pub mod fullsync;
pub mod primary;
pub mod replica;
pub mod replid;
pub mod state;
mod sys;
pub mod wire;
