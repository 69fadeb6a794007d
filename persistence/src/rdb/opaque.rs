//! Values that are carried as they stand: streams, and what modules stored.
//!
//! Nothing here acts on them, but they are read to their end and checked all the same ([`stream`](super::stream)):
//! what is accepted is handed on to others, who trust it. While one is read, all of its bytes stay in the window; they
//! become the engine's [`Opaque`], which begins with the byte of the value's type:
//!
//! ```text
//! in the stream   type(1)  key  value
//! in the engine   type(1)  value
//! ```

use super::RdbError;
use super::format::{module_item, value_type};
use super::reading::Reading;
use super::source::Source;
use super::visitor::{Packed, RdbVisitor};
use sluice_engine::internals::{Opaque, TypeName};

/// Longest value that is carried: it is held whole.
pub(super) const OPAQUE_MAX: u64 = 1 << 30;

impl<S: Source> Reading<S> {
    /// Reads the stream or the module's value of the key in `self.key`.
    pub(super) fn opaque(&mut self, kind: u8, visitor: &mut impl RdbVisitor) -> Result<(), RdbError> {
        let begin = self.input.offset();
        self.input.hold(self.opaque_max);
        let name = if kind == value_type::MODULE_2 {
            let name = module_name(self.input.length()?);
            self.module_items()?;
            name
        } else {
            self.stream(kind)?;
            "stream".to_string()
        };
        self.input.release()?;
        let value = self.input.since(begin);
        let mut bytes = Vec::with_capacity(1 + value.len());
        bytes.push(kind);
        bytes.extend_from_slice(value);
        let name = TypeName::new(&name).expect("`stream`, or nine characters of an alphabet");
        let value = Opaque::new(name, bytes).expect("the byte of the type is in it");
        let key = self.describe(&self.key);
        visitor.packed(&key, Packed::Opaque(value)).map_err(|refusal| self.refused(refusal))
    }

    /// Passes over the typed items a module wrote, and the mark behind them.
    pub(super) fn module_items(&mut self) -> Result<(), RdbError> {
        loop {
            match self.input.length()? {
                module_item::EOF => return Ok(()),
                module_item::SINT | module_item::UINT => drop(self.input.length()?),
                module_item::FLOAT => self.input.skip(4)?,
                module_item::DOUBLE => self.input.skip(8)?,
                module_item::STRING => {
                    self.scratch.clear();
                    self.input.text(&mut self.scratch)?;
                }
                unknown => return self.input.corrupt(format!("unknown kind {unknown} of module data")),
            }
        }
    }
}

/// The nine characters of a module type's id; the low ten bits are its encoding version (`moduleTypeNameByID`).
pub(super) fn module_name(id: u64) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).rev().map(|n| char::from(ALPHABET[(id >> (10 + 6 * n)) as usize & 63])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::decoder::RdbDecoder;
    use crate::rdb::dump::Single;
    use crate::rdb::source::ReadSource;
    use sluice_engine::internals::Limits;

    /// What reading `bytes` says where a value may have 100 bytes.
    fn error_of(source: impl Source) -> String {
        let limits = Limits::default();
        let mut decoder = RdbDecoder::with_checksum(source, false).with_opaque_max(100);
        decoder.run(&mut Single::new(&limits)).expect_err("there is no end mark").to_string()
    }

    #[test]
    fn a_value_of_the_greatest_length_is_taken_and_one_byte_more_is_not() {
        let file = |bytes: u8| {
            // A module's id, a string's kind and length, the string, and the end.
            let value = [&[1, 5, 0x40, bytes - 5][..], &vec![b'x'; usize::from(bytes) - 5], &[0]].concat();
            assert_eq!(value.len(), usize::from(bytes));
            [b"REDIS0010\x07\x01k", &value[..]].concat()
        };
        let too_long = "unsupported RDB content at byte 112: a value of more than 100 bytes that would be carried as it stands";
        for bytes in [101, 102, 200] {
            assert_eq!(error_of(&file(bytes)[..]), too_long);
            assert_eq!(error_of(ReadSource::new(&file(bytes)[..])), too_long);
        }
        // It is the end of the file that is missed.
        assert!(error_of(&file(100)[..]).contains("it ends at byte 112"));
        assert!(error_of(ReadSource::new(&file(100)[..])).contains("it ends at byte 112"));
    }

    #[test]
    fn memory_is_not_taken_for_what_is_too_long() {
        /// Counts what is asked for.
        struct Asked<'a>(&'a [u8], usize);
        impl Source for Asked<'_> {
            fn window(&self) -> &[u8] {
                self.0
            }
            fn fill(&mut self, want: usize) -> std::io::Result<bool> {
                assert!(want <= self.1, "{want} bytes were asked for");
                Ok(self.0.len() >= want)
            }
            fn consume(&mut self, n: usize) {
                self.0 = &self.0[n..];
            }
        }
        let error = error_of(Asked(b"REDIS0010\x07\x01k\x01\x05\x80\x3f\xff\xff\xff", 200));
        assert!(error.contains("at byte 112: a value of more than 100 bytes"), "{error}");
    }
}
