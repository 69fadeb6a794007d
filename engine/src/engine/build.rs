//! How an engine is made.

use super::rows::{RenameError, Rows};
use super::{Engine, MAX_DATABASES, MAX_SHARDS};
use crate::clock::Clock;
use crate::command::Command;
use crate::shared::{Host, Shared};
use std::any::Any;
use std::sync::Arc;

/// Settings of an engine that cannot change later.
///
/// ```
/// use sluice_engine::Engine;
///
/// let engine = Engine::builder().shards(64).databases(1).build();
/// assert_eq!((engine.shards(), engine.databases()), (64, 1));
/// ```
pub struct EngineBuilder {
    shards: usize,
    databases: u32,
    extra: Vec<&'static Command>,
    renames: Vec<(Vec<u8>, Vec<u8>)>,
    host: Option<Host>,
    clock: Clock,
}

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBuilder")
            .field("shards", &self.shards)
            .field("databases", &self.databases)
            .field("extra", &self.extra)
            .finish_non_exhaustive()
    }
}

impl EngineBuilder {
    /// Number of shards; rounded up to a power of two, at most [`MAX_SHARDS`]. Default 32.
    pub fn shards(mut self, n: usize) -> Self {
        self.shards = n.clamp(1, MAX_SHARDS).next_power_of_two();
        self
    }

    /// Number of databases, at most [`MAX_DATABASES`]. Default 16.
    pub fn databases(mut self, n: u32) -> Self {
        self.databases = n.clamp(1, MAX_DATABASES);
        self
    }

    /// Registers more commands. A row replaces a built-in one of the same name. What rows are made of is in
    /// [`internals`](crate::internals), and may change.
    pub fn commands(mut self, rows: impl IntoIterator<Item = &'static Command>) -> Self {
        self.extra.extend(rows);
        self
    }

    /// Calls a command by another name, in any case; an empty one takes it away. Later calls find what earlier ones left. The
    /// row keeps the name it was registered by: see [`Engine::lookup_trusted`].
    pub fn rename(mut self, from: &[u8], to: &[u8]) -> Self {
        self.renames.push((from.to_ascii_lowercase(), to.to_ascii_lowercase()));
        self
    }

    /// Registers what the embedder's rows reach their owner by: see [`Keys::host`](crate::keyspace::Keys::host).
    pub fn host(mut self, host: Arc<impl Any + Send + Sync>) -> Self {
        self.host = Some(host);
        self
    }

    /// The clock by which keys expire; that of the system unless said otherwise. See [`ManualClock`](crate::ManualClock).
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Makes the engine.
    ///
    /// # Panics
    /// Where [`EngineBuilder::try_build`] fails, which only a wrong [`EngineBuilder::rename`] makes it do.
    pub fn build(self) -> Engine {
        self.try_build().unwrap_or_else(|e| panic!("{e}"))
    }

    /// Makes the engine.
    ///
    /// # Errors
    /// A command that is to be renamed does not exist, or its new name does.
    pub fn try_build(self) -> Result<Engine, RenameError> {
        let rows = crate::commands::ALL.iter().copied().flatten().chain(self.extra);
        let shared = Shared::new(self.shards, self.databases, self.host, self.clock);
        Ok(Engine::of(Rows::new(rows, &self.renames)?, shared))
    }
}

/// # Making one
impl Engine {
    /// Settings to begin with.
    pub fn builder() -> EngineBuilder {
        EngineBuilder {
            shards: 32,
            databases: 16,
            extra: Vec::new(),
            renames: Vec::new(),
            host: None,
            clock: Clock::System,
        }
    }
}

impl Default for Engine {
    fn default() -> Engine {
        Engine::builder().build()
    }
}
