//! Reading a stream for what it is rather than for what it says: version, types, lengths and checksum. What a glance
//! understands is passed over by its lengths, as the reading thread of a load does; the rest is decoded and dropped.

use super::RdbError;
use super::decoder::RdbDecoder;
use super::reading::Step;
use super::skim::skim;
use super::source::Source;
use super::visitor::{Key, Kind, Packed, RdbVisitor, Refusal};

/// Bytes passed over in one step.
const PIECE: usize = 256 << 10;

/// Goes on in the stream by some keys, for a reader with this many databases.
pub(crate) fn pass_over<S: Source>(decoder: &mut RdbDecoder<S>, databases: u32) -> Result<Step, RdbError> {
    if decoder.place().db < databases {
        let whole = skim(decoder.items_at_hand(), PIECE);
        if whole > 0 {
            decoder.pass(whole);
            return Ok(Step::More);
        }
    }
    decoder.step(&mut Nobody { databases })
}

/// Takes everything there is a place for.
struct Nobody {
    databases: u32,
}

impl Nobody {
    fn takes(&self, key: &Key<'_>) -> Result<(), Refusal> {
        match key.db < self.databases {
            true => Ok(()),
            false => Err(format!("database {} does not exist here", key.db).into()),
        }
    }
}

impl RdbVisitor for Nobody {
    fn string(&mut self, key: &Key<'_>, _: &[u8]) -> Result<(), Refusal> {
        self.takes(key)
    }
    fn int(&mut self, key: &Key<'_>, _: i64) -> Result<(), Refusal> {
        self.takes(key)
    }
    fn packed(&mut self, key: &Key<'_>, _: Packed) -> Result<(), Refusal> {
        self.takes(key)
    }
    fn begin(&mut self, key: &Key<'_>, _: Kind, _: u64) -> Result<(), Refusal> {
        self.takes(key)
    }
}
