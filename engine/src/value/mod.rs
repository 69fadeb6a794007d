//! The collections a key can hold. Strings and integers live in the keyspace entry itself.

pub mod list;

pub use list::List;
