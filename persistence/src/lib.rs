//! RDB codec, storage plugs and recovery for the Sluice engine.

pub mod rdb;
pub mod storage;
