//! A value this server holds and does not understand: a stream, or what a module stored.
//!
//! It is the bytes it came as, and the name of its type. What the bytes mean is the business of whoever made it (the
//! persistence crate, which checked them); here they are copied by reference, counted, and handed on as they stand:
//!
//! ```text
//! first byte: which form the others have | the other bytes
//! ```

use std::fmt;
use std::sync::Arc;

/// Longest name of a type; a module's has nine characters.
const NAME_MAX: usize = 15;

/// The name of a type this server does not understand, as `TYPE` prints it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TypeName {
    len: u8,
    bytes: [u8; NAME_MAX],
}

impl TypeName {
    /// A name of 1 to 15 printable ASCII characters; `None` for any other.
    pub fn new(name: &str) -> Option<TypeName> {
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let mut bytes = [0; NAME_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Some(TypeName { len: name.len() as u8, bytes })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("only ASCII is taken in `new`")
    }
}

impl fmt::Debug for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A value that is carried byte for byte. Clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Opaque(Arc<Content>);

#[derive(PartialEq, Eq)]
struct Content {
    type_name: TypeName,
    /// Not empty.
    bytes: Box<[u8]>,
}

impl Opaque {
    /// A value of the type called `type_name`; `None` where `bytes` is empty.
    pub fn new(type_name: TypeName, bytes: impl Into<Box<[u8]>>) -> Option<Opaque> {
        let bytes = bytes.into();
        (!bytes.is_empty()).then(|| Opaque(Arc::new(Content { type_name, bytes })))
    }

    /// The name `TYPE` prints.
    pub fn type_name(&self) -> TypeName {
        self.0.type_name
    }

    /// The name `OBJECT ENCODING` prints: Redis has one for streams, and one for whatever modules hold.
    pub fn encoding(&self) -> &'static str {
        if self.0.type_name.as_str() == "stream" { "stream" } else { "raw" }
    }

    /// The value, its first byte included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The first byte, which says what the others are, and those.
    pub fn split(&self) -> (u8, &[u8]) {
        (self.0.bytes[0], &self.0.bytes[1..])
    }

    /// Bytes of memory, shared or not.
    pub fn memory(&self) -> usize {
        size_of::<Content>() + self.0.bytes.len()
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opaque({:?}, {} bytes)", self.0.type_name, self.0.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_printable_and_short_or_no_name() {
        for good in ["stream", "hellotype", "ReJSON-RL", "x"] {
            assert_eq!(TypeName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "sixteen-letters-", "a b", "line\n", "größe"] {
            assert_eq!(TypeName::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn clones_share_their_bytes() {
        let value = Opaque::new(TypeName::new("stream").unwrap(), vec![15, 1, 2]).unwrap();
        let copy = value.clone();
        assert!(std::ptr::eq(value.as_bytes(), copy.as_bytes()));
        assert_eq!(copy.split(), (15, &[1, 2][..]));
        assert_eq!(Opaque::new(TypeName::new("stream").unwrap(), Vec::new()), None);
    }
}
