//! The server's configuration: the table of directives, the files and flags it is read from, and CONFIG.
//!
//! [`Config`] is a plain typed struct. A running server shares it through a [`ConfigHandle`]: readers take a
//! snapshot (one reference count), CONFIG SET builds a changed copy and swaps it in whole, so that several
//! settings change together or not at all. What must follow a change (an encoding threshold of the engine, the
//! log level) registers a hook under the directive's name; a hook that refuses undoes the change.

mod command;
mod compound;
mod directives;
mod file;
#[cfg(test)]
mod listing;
mod newer;
mod rewrite;
mod support;
mod users;
mod values;

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

pub(crate) use command::{ConfigReply, config_command};
pub(crate) use compound::{ClientClass, OnSignal};
pub(crate) use directives::{Config, RESERVED_DESCRIPTORS};
pub(crate) use file::{LoadError, Loaded, Loader};
use sluice_engine::internals::words;
pub(crate) use sluice_engine::internals::words::{quote, split as split_words};
pub(crate) use values::{
    DisklessLoad, Fsync, Guarded, LogLevel, PropagationError, ReplCompression, ReplTransport, Supervised,
    os_reason,
};

/// Whether the value of the directive with this name, in any case, is not to be shown in logs.
pub(crate) fn is_secret(name: &[u8]) -> bool {
    const SECRETS: [&str; 7] = [
        "requirepass",
        "masterauth",
        "masteruser",
        "primaryauth",
        "primaryuser",
        "tls-key-file-pass",
        "tls-client-key-file-pass",
    ];
    SECRETS.iter().any(|secret| secret.as_bytes().eq_ignore_ascii_case(name))
}

/// The word of a setting that is one of several.
pub(crate) fn word<C: values::Choice>(choice: C) -> &'static str {
    choice.word()
}

/// What follows a change of a setting. An error undoes the change and is shown to the client.
pub(crate) type Hook = Box<dyn Fn(&Config) -> Result<(), String> + Send + Sync>;

/// The configuration of a running server, shared by its threads.
#[derive(Clone)]
pub(crate) struct ConfigHandle(Arc<Shared>);

struct Shared {
    current: RwLock<Arc<Config>>,
    hooks: RwLock<Vec<(&'static str, Hook)>>,
    /// Held over a change, so that changes follow one another with their hooks.
    changing: Mutex<()>,
}

impl ConfigHandle {
    /// Shares `config`.
    pub(crate) fn new(config: Config) -> Self {
        ConfigHandle(Arc::new(Shared {
            current: RwLock::new(Arc::new(config)),
            hooks: RwLock::new(Vec::new()),
            changing: Mutex::new(()),
        }))
    }

    /// The settings as they are now.
    pub(crate) fn load(&self) -> Arc<Config> {
        self.0.current.read().clone()
    }

    /// Has `hook` follow every change of any of these directives, and calls it once now.
    ///
    /// # Errors
    /// What the hook said of the present settings; it stays registered.
    pub(crate) fn on_change<H>(&self, names: &[&'static str], hook: H) -> Result<(), String>
    where
        H: Fn(&Config) -> Result<(), String> + Send + Sync + 'static,
    {
        let first = hook(&self.load());
        let hook = Arc::new(hook);
        let mut hooks = self.0.hooks.write();
        for name in names {
            debug_assert!(
                directives::lookup(name.as_bytes()).is_some(),
                "hook on an unknown directive {name}"
            );
            let hook = Arc::clone(&hook);
            hooks.push((name, Box::new(move |config| hook(config))));
        }
        first
    }

    /// Changes settings from within the server (REPLICAOF sets `replicaof`); no hook runs.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Config)) {
        let _changing = self.0.changing.lock();
        let mut config = Config::clone(&self.load());
        change(&mut config);
        *self.0.current.write() = Arc::new(config);
    }

    /// Replaces the settings and runs the hooks of `changed`, all or nothing. The error names the directive
    /// whose hook refused.
    fn replace(&self, config: Config, changed: &[&'static str]) -> Result<(), (&'static str, String)> {
        let before = self.load();
        *self.0.current.write() = Arc::new(config);
        let now = self.load();
        let hooks = self.0.hooks.read();
        let concerned = || hooks.iter().filter(|(name, _)| changed.contains(name));
        for (name, hook) in concerned() {
            if let Err(reason) = hook(&now) {
                *self.0.current.write() = Arc::clone(&before);
                // What already followed the change follows it back; a refusal here has nothing left to undo.
                concerned().for_each(|(_, hook)| drop(hook(&before)));
                return Err((name, reason));
            }
        }
        Ok(())
    }
}
