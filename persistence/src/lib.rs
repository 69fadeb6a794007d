//! Sluice's files: the RDB codec, the storage plugs, saving and loading.
//!
//! Everything persisted comes from a *cut* of the engine (the whole keyspace at one log offset, taken while
//! writes go on), and loading is the way back. [`save()`] turns a cut into an RDB file that redis-server 7.0
//! reads, [`load()`] reads any RDB of versions 1 to 13. The two halves are there without files too:
//! [`rdb::RdbEncoder`] takes a cut and gives chunks of bytes, [`rdb::RdbDecoder`] takes bytes from anywhere and
//! gives keys. Files are reached only through [`storage::Storage`].
//!
//! ```
//! use sluice_engine::Engine;
//! use sluice_persistence::storage::{Memory, Storage};
//! use sluice_persistence::{LoadOptions, SaveOptions, load, save};
//! use std::{ops::ControlFlow, path::Path, sync::Arc};
//!
//! let storage: Arc<dyn Storage> = Arc::new(Memory::new());
//! let path = Path::new("dump.rdb");
//!
//! let engine = Engine::default();
//! let mut loader = engine.loader();
//! loader.string(0, b"greeting", b"hello", None, 0);
//! loader.finish();
//! let saved = save(&engine, &storage, path, &SaveOptions::default(), &mut |_| ControlFlow::Continue(()))?;
//! assert_eq!(saved.keys, 1);
//!
//! let other = Engine::default();
//! let mut loader = other.loader();
//! let loaded = load(&mut loader, &storage, path, &LoadOptions::default())?;
//! loader.finish();
//! assert_eq!(loaded.report.keys, 1);
//! # Ok::<(), sluice_persistence::Error>(())
//! ```

pub mod aof;
mod error;
mod load;
pub mod rdb;
mod save;
pub mod storage;

pub use error::Error;
pub use load::{LoadControl, LoadOptions, LoadStats, load, load_with, survey};
pub use save::{SaveOptions, SaveStats, save, save_cut};
