//! What comes beside the keys and is carried: telling function libraries from modules' data.

use super::format::opcode;
use super::{RdbDecoder, RdbVisitor, Refusal};

/// Keeps function libraries.
#[derive(Default)]
struct Libraries(Vec<u8>);

/// The function libraries among carried items (see `Engine::carry`), as they stand. Items that were carried had been read, so
/// there is nothing wrong with them; what cannot be read nonetheless ends it.
pub fn function_libraries(carried: &[u8]) -> Vec<u8> {
    let mut stream = b"REDIS0010".to_vec();
    stream.extend_from_slice(carried);
    stream.push(opcode::EOF);
    stream.extend_from_slice(&[0; 8]);
    let mut kept = Libraries::default();
    let read = RdbDecoder::with_checksum(stream.as_slice(), false).run(&mut kept);
    debug_assert!(read.is_ok(), "{read:?}");
    kept.0
}

impl RdbVisitor for Libraries {
    fn foreign(&mut self, item: &[u8]) -> Result<(), Refusal> {
        if item.first() == Some(&opcode::FUNCTION2) {
            self.0.extend_from_slice(item);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::length::put_raw_string;

    #[test]
    fn modules_data_is_told_from_function_libraries() {
        let mut library = vec![opcode::FUNCTION2];
        put_raw_string(&mut library, b"#!lua name=one\n");
        // A module of id 1, at the time 2, with nothing stored.
        let aux = [opcode::MODULE_AUX, 1, 2, 2, 0];
        let carried = [&library[..], &aux, &library].concat();
        assert_eq!(function_libraries(&carried), [&library[..], &library].concat());
        assert!(function_libraries(&aux).is_empty() && function_libraries(&[]).is_empty());
    }
}
