//! Mutations: small damage to good input, the same for the same seed.

use crate::data::Random;

/// Bytes that mean something in most of our formats: lengths, marks, signs, line ends, digits.
const TELLING: &[u8] = &[
    0, 1, 0x7f, 0x80, 0x81, 0xc0, 0xc3, 0xe0, 0xf0, 0xf4, 0xfa, 0xfe, 0xff, b'\r', b'\n', b'*', b'$', b'-',
    b'0', b'9',
];
/// Mutations of one input, at most.
const CHANGES: u64 = 4;

/// A damaged copy of `input`; `other` is material to splice in.
pub fn mutate(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(CHANGES) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let some = |random: &mut Random| 1 + random.below(8) as usize;
        match random.below(9) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = *random.one_of(TELLING),
            3 if at < bytes.len() => {
                bytes[at] = bytes[at].wrapping_add(if random.below(2) == 0 { 1 } else { 0xff })
            }
            4 => {
                let len = some(random);
                let noise = random.noise(len);
                bytes.splice(at..at, noise);
            }
            5 => drop(bytes.drain(at..(at + some(random)).min(bytes.len()))),
            6 => bytes.truncate(at),
            7 => {
                let from = random.below(bytes.len() as u64 + 1) as usize;
                let copy = bytes[from..(from + some(random)).min(bytes.len())].to_vec();
                let end = (at + copy.len()).min(bytes.len());
                bytes.splice(at..end, copy);
            }
            8 => {
                let from = random.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {}
        }
    }
    bytes
}
