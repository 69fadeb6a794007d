//! The allocator and its settings.
//!
//! jemalloc has size classes that fit small entries, and gives freed pages back. Huge pages stay off: on virtual
//! machines whose host takes free memory back, a load spent three times longer clearing them than it saved.
//!
//! `unsafe` here: the settings are a symbol the allocator looks up by name.
#![allow(unsafe_code)]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc at start.
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: &[u8] = b"background_thread:true,dirty_decay_ms:2000,muzzy_decay_ms:0\0";
