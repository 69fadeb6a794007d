//! How far a directive is supported, and what is said where it is not.
//!
//! A directive without effect may be accepted with a warning only if the server without it is merely slower or lacks
//! something. What protects data, or says who holds which part of it, is *refused*: a server that starts
//! without it would stand open, send in clear text, or answer for keys that are not its own.

/// How far Sluice supports a directive. The texts say what that means for whoever set it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Support {
    /// It does what it says.
    Full,
    /// It tunes a mechanism Sluice has no need of (fork, rehashing): accepted, with a warning where it is set.
    Moot(&'static str),
    /// Without effect yet: accepted, with a warning where it is set.
    Later(&'static str),
    /// Without effect yet, and what it protects would be open: set to anything but its default, it stops the start.
    Refused(&'static str),
}

impl Support {
    #[cfg(test)]
    /// One word, for the list of directives.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Support::Full => "full",
            Support::Moot(_) => "nothing to tune",
            Support::Later(_) => "not yet",
            Support::Refused(_) => "refused",
        }
    }

    #[cfg(test)]
    /// What it means, if it is not supported.
    pub(crate) fn meaning(self) -> Option<&'static str> {
        match self {
            Support::Full => None,
            Support::Moot(text) | Support::Later(text) | Support::Refused(text) => Some(text),
        }
    }

    /// What the log says where directive `name` was given a value of its own; nothing if it has its effect or is refused.
    pub(crate) fn warning(self, name: &str) -> Option<String> {
        match self {
            Support::Full | Support::Refused(_) => None,
            Support::Moot(text) => Some(format!("The directive '{name}' has no effect in Sluice: {text}")),
            Support::Later(text) => Some(format!(
                "The directive '{name}' is known but not yet supported, it has no effect: {text}"
            )),
        }
    }

    /// Why directive `name` may not be set, if it is refused.
    pub(crate) fn refusal(self, name: &str) -> Option<String> {
        match self {
            Support::Refused(text) => {
                Some(format!("Sluice does not support '{name}' yet and does not run without it: {text}"))
            }
            _ => None,
        }
    }
}

/// What rows of the table have in common.
pub(super) mod because {
    pub(crate) const NO_FORK: &str = "there is no child process";
    pub(crate) const NO_REHASHING: &str = "tables grow a segment at a time, nothing is rehashed";
    pub(crate) const NO_DEFRAG: &str = "memory is not defragmented";
    pub(crate) const FREES_LAZILY: &str =
        "large values are always freed in the background, small ones at once";
    pub(crate) const NO_EVICTION: &str = "nothing is evicted";
    pub(crate) const NO_PINNING: &str =
        "threads are not pinned to processors; start the server under taskset for that";
    pub(crate) const NO_USERS: &str = "there is one user, 'default'";
    pub(crate) const NO_STREAMS: &str = "streams are carried as they came, without commands";
    pub(crate) const NO_CLUSTER: &str = "there is no cluster mode";
    pub(crate) const NO_SYSLOG: &str = "it would only matter with 'syslog-enabled yes'";
    pub(crate) const SYSLOG: &str =
        "the log would be missing where it is looked for; remove the line and use logfile or standard output";
    pub(crate) const CLEAR_TEXT: &str = "data would travel in clear text and certificates would not be asked for; remove \
                                         the line, or set it to its default, and put a TLS proxy in front where the \
                                         network is not trusted";
    pub(crate) const USERS_FILE: &str = "users and their limits would not exist and everybody could do everything; remove \
                                         the line and protect the server with 'requirepass', 'bind' and 'rename-command'";
    pub(crate) const ALONE: &str = "this node would hold all keys alone and answer for slots of others; set \
                                    'cluster-enabled no', or run redis-server where a cluster is needed";
    pub(crate) const MODULE: &str =
        "the module's commands, types and checks would be missing; remove the line";
}
