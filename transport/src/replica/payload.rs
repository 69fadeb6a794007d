//! Where a full-sync payload ends: after so many bytes, or at a mark.
//!
//! A payload with a mark (`$EOF:`) has no length. Redis' way of finding its end is kept: the mark ends
//! it when it is the last thing received, for the primary sends nothing more until we acknowledge.
//! Bytes that may be the beginning of the mark are held back (at most 39), the rest goes through uncopied.

use crate::frame::SLUICE_HEADER;
use crate::replid::REPLID_LEN;
use crate::wire::parse_i64;

/// The three ways a full sync comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// `$<length>`: an RDB file.
    Sized(u64),
    /// `$EOF:<mark>`: an RDB stream that ends with the mark.
    Eof {
        /// The mark.
        mark: [u8; REPLID_LEN],
    },
    /// `$SLUICE:<mark>`: frames, see [`crate::frame`].
    Sluice {
        /// The mark.
        mark: [u8; REPLID_LEN],
    },
}

impl PayloadKind {
    /// Parses a header line that begins with `$`.
    pub(super) fn parse(line: &[u8], sluice_offered: bool) -> Result<Self, &'static str> {
        if let Some(mark) = line.strip_prefix(b"$EOF:") {
            let mark = mark.try_into().map_err(|_| "the end mark is not 40 bytes long")?;
            return Ok(PayloadKind::Eof { mark });
        }
        if let Some(mark) = line.strip_prefix(SLUICE_HEADER) {
            if !sluice_offered {
                return Err("a framed payload we did not offer to read");
            }
            let mark = mark.try_into().map_err(|_| "the end mark is not 40 bytes long")?;
            return Ok(PayloadKind::Sluice { mark });
        }
        let len = parse_i64(&line[1..]).and_then(|n| u64::try_from(n).ok());
        len.map(PayloadKind::Sized).ok_or("the payload length is no number")
    }
}

/// Passes payload bytes through up to the end.
#[derive(Debug)]
pub(super) struct PayloadReader {
    kind: Kind,
    done: bool,
}

#[derive(Debug)]
enum Kind {
    Sized(u64),
    Eof {
        mark: [u8; REPLID_LEN],
        /// How many bytes of the mark the input so far ends with; they were not passed on.
        matched: usize,
        /// Held bytes that turned out to be data, lent out by `read`.
        released: [u8; REPLID_LEN],
    },
}

impl PayloadReader {
    pub(super) fn new(kind: PayloadKind) -> Self {
        match kind {
            PayloadKind::Sized(n) => Self { kind: Kind::Sized(n), done: n == 0 },
            PayloadKind::Eof { mark } | PayloadKind::Sluice { mark } => {
                Self { kind: Kind::Eof { mark, matched: 0, released: [0; REPLID_LEN] }, done: false }
            }
        }
    }

    pub(super) fn done(&self) -> bool {
        self.done
    }

    pub(super) fn left(&self) -> Option<u64> {
        match self.kind {
            Kind::Sized(n) => Some(n),
            Kind::Eof { .. } => None,
        }
    }

    /// Payload bytes from the front of `input`, possibly empty at the very end; `None` when more input is needed.
    pub(super) fn read<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<&'a [u8]> {
        if input.is_empty() {
            return None;
        }
        let (mark, matched, released) = match &mut self.kind {
            Kind::Sized(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                let (bytes, rest) = input.split_at(take);
                *input = rest;
                *left -= take as u64;
                self.done = *left == 0;
                return Some(bytes);
            }
            Kind::Eof { mark, matched, released } => (mark, matched, released),
        };
        let held = *matched;
        let total = held + input.len();
        // The longest end of (held + input) that begins the mark.
        let at = |i: usize| if i < held { mark[i] } else { input[i - held] };
        let mut keep = total.min(REPLID_LEN);
        while keep > 0 && !(0..keep).all(|i| at(total - keep + i) == mark[i]) {
            keep -= 1;
        }
        self.done = keep == REPLID_LEN;
        let pass = total - keep;
        if pass == 0 {
            *input = &[];
            *matched = keep;
            return self.done.then_some(&[]);
        }
        if held > 0 {
            // Release held bytes first; `input` stays and is looked at again by the next call.
            let free = pass.min(held);
            released[..free].copy_from_slice(&mark[..free]);
            self.done = false;
            if free < held {
                // The mark begins again inside what was held: what stays held is its beginning.
                *matched = held - free;
            } else {
                *matched = 0;
            }
            return Some(&released[..free]);
        }
        let bytes = &input[..pass];
        *input = &[];
        *matched = keep;
        Some(bytes)
    }
}
