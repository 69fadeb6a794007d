//! Client connections: the task of each ([`conn`]), its socket ([`stream`], [`io`]) and what is on its way to the client
//! ([`outbox`]), what of a batch is read ahead ([`ahead`]), how it runs a command ([`run`]), what may run now ([`admission`]), commands that wait ([`waiting`],
//! [`acks`]), CLIENT PAUSE ([`pause`]), and the registry of them all ([`registry`]).

pub(crate) mod acks;
pub(crate) mod admission;
pub(crate) mod ahead;
pub(crate) mod conn;
pub(crate) mod io;
pub(crate) mod outbox;
pub(crate) mod pause;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod stream;
pub(crate) mod waiting;
