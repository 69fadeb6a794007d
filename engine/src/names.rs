//! Command names of up to eight bytes, found at once: nearly all commands that are sent are called by one.
//!
//! A name is packed into a word, in lower case, and looked for in a small table by a multiplication. A longer one is not
//! found here; it has to be looked for elsewhere.

use crate::command::Command;

/// Longest name that fits in a word.
const MOST: usize = 8;
/// The table has at least so many slots a name.
const ROOM: usize = 4;
/// An odd number whose multiples spread over the upper bits: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Copy)]
struct Slot {
    name: u64,
    /// Bytes of the name, 0 of a free slot: zeros may be part of a name that is asked for.
    len: usize,
    id: usize,
    command: &'static Command,
}

/// The names and the rows they stand for.
pub(crate) struct ShortNames {
    slots: Box<[Option<Slot>]>,
    shift: u32,
}

impl ShortNames {
    /// Takes those of the names (all in lower case) that are short, each with its row and its place in the command table.
    pub(crate) fn new<'n>(names: impl Iterator<Item = (&'n [u8], usize, &'static Command)>) -> ShortNames {
        let short: Vec<_> = names.filter(|(name, ..)| !name.is_empty() && name.len() <= MOST).collect();
        let size = (short.len() * ROOM).next_power_of_two().max(2);
        let mut this = ShortNames { slots: vec![None; size].into(), shift: 64 - size.ilog2() };
        for (name, id, command) in short {
            let slot = Slot { name: pack(name), len: name.len(), id, command };
            let mut at = this.home(slot.name);
            while this.slots[at].is_some() {
                at = (at + 1) & (size - 1);
            }
            this.slots[at] = Some(slot);
        }
        this
    }

    #[inline]
    fn home(&self, name: u64) -> usize {
        (name.wrapping_mul(SPREAD) >> self.shift) as usize
    }

    /// Finds a name of up to eight bytes, in any case.
    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<(usize, &'static Command)> {
        if name.is_empty() || name.len() > MOST {
            return None;
        }
        let packed = pack(name);
        let mut at = self.home(packed);
        // It ends: three of four slots are free.
        while let Some(slot) = &self.slots[at] {
            if slot.name == packed && slot.len == name.len() {
                return Some((slot.id, slot.command));
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }
}

/// The name in lower case, as a word. It has between one and eight bytes.
#[inline]
fn pack(name: &[u8]) -> u64 {
    let n = name.len();
    let word = if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        // What both have they agree on.
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << ((n - 4) * 8)
    } else {
        let byte = |at: usize| u64::from(name[at]) << (at * 8);
        byte(0) | byte(n / 2) | byte(n - 1)
    };
    lower(word)
}

/// Eight bytes in lower case at once: each letter from A to Z, and nothing else, gets the bit that is missing.
#[inline]
fn lower(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let seven = word & !HIGH;
    let from_a = seven + ONES * (0x80 - b'A' as u64);
    let beyond_z = seven + ONES * (0x7f - b'Z' as u64);
    let upper = !word & (from_a ^ beyond_z) & HIGH;
    word | upper >> 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;

    #[test]
    fn each_byte_becomes_what_ascii_says_whatever_is_beside_it() {
        for n in 1..=MOST {
            for at in 0..n {
                for byte in 0..=255u8 {
                    for beside in [0, b'A', b'z', b'@', 0xff] {
                        let mut name = vec![beside; n];
                        name[at] = byte;
                        let mut expected = [0; 8];
                        expected[..n].copy_from_slice(&name.to_ascii_lowercase());
                        assert_eq!(pack(&name), u64::from_le_bytes(expected), "{name:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_command_is_found_in_any_case_and_nothing_else_is() {
        let engine = Engine::default();
        for row in engine.commands() {
            let name = row.command.name;
            for spelt in [name.to_string(), name.to_uppercase(), name[..1].to_uppercase() + &name[1..]] {
                assert_eq!(engine.lookup(spelt.as_bytes()).map(|found| found.id), Some(row.id), "{spelt}");
            }
            // Words that differ by what a packed name leaves out.
            assert!(engine.lookup(format!("{name}\0").as_bytes()).is_none(), "{name} and a zero");
            assert!(engine.lookup(&[name.as_bytes(), b"\xff"].concat()).is_none());
        }
        assert!(engine.lookup(b"").is_none() && engine.lookup(b"\0").is_none());
        assert!(engine.lookup(b"ge").is_none() && engine.lookup(b"getx").is_none());
    }
}
