//! Client connections: the task of each ([`conn`]), how it runs a command ([`run`]), what may run now ([`admission`]),
//! commands that wait ([`waiting`]), CLIENT PAUSE ([`pause`]), and the registry of them all ([`registry`]).

pub(crate) mod admission;
pub(crate) mod conn;
pub(crate) mod pause;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod waiting;
