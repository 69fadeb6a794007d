//! The log in a file, item by item: commands as RESP arrays, and annotations.
//!
//! ```text
//! #TS:1628217470\r\n                     an annotation: until the next one, what follows happened then (Unix seconds)
//! *2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n      a command
//! *1\r\n$5\r\nMULTI\r\n ... EXEC         a block: it counts as a whole or not at all
//! ```
//!
//! The reader works on bytes that are all there (a mapped file), borrows arguments from them and allocates nothing by
//! a length it reads. It knows [`Reader::whole`], the end of the last item outside of a block: where a torn
//! tail is to be cut.

use sluice_engine::internals::{
    MAX_STRING_LEN, encode_command,
    resp::{Args, Parsed, parse},
};

/// Longest annotation line redis-server reads (`AOF_ANNOTATION_LINE_MAX_LEN`).
const MAX_ANNOTATION: usize = 1024;

/// What comes next in the log.
#[derive(Debug)]
pub enum Item<'a> {
    /// A command, name first; never empty.
    Command(Args<'a>),
    /// An annotation, with the time where it is one (`#TS:`), in seconds of Unix time.
    Annotation(Option<i64>),
    /// The end, behind a whole item. A block may still be open: see [`Reader::in_block`].
    End,
    /// The end, in the middle of an item.
    Torn,
    /// Bytes that are no log.
    Malformed(String),
}

/// Reads items from bytes.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    whole: usize,
    in_block: bool,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from offset `from`.
    pub fn new(bytes: &'a [u8], from: usize) -> Self {
        let at = from.min(bytes.len());
        Self { bytes, at, whole: at, in_block: false }
    }

    /// Offset of the next item.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// End of the last item outside of a block, or of the last whole block.
    pub fn whole(&self) -> usize {
        self.whole
    }

    /// Whether a MULTI was read and no EXEC yet.
    pub fn in_block(&self) -> bool {
        self.in_block
    }

    /// Reads the next item. After the end, a torn or a malformed item it stays where it is.
    pub fn item(&mut self) -> Item<'a> {
        let rest = &self.bytes[self.at..];
        match rest.first() {
            None => Item::End,
            Some(b'#') => self.annotation(rest),
            Some(b'*') => self.command(rest),
            Some(other) => Item::Malformed(format!("Expected prefix '*', got: '{}'", char::from(*other))),
        }
    }

    fn annotation(&mut self, rest: &'a [u8]) -> Item<'a> {
        let Some(end) = rest.iter().take(MAX_ANNOTATION).position(|b| *b == b'\n') else {
            return if rest.len() < MAX_ANNOTATION {
                Item::Torn
            } else {
                Item::Malformed("an annotation of more than 1024 bytes".into())
            };
        };
        let line = rest[..end].trim_ascii_end();
        self.advance(end + 1);
        let time = line.strip_prefix(b"#TS:").and_then(sluice_engine::internals::num::parse_i64);
        Item::Annotation(time)
    }

    fn command(&mut self, rest: &'a [u8]) -> Item<'a> {
        match parse(rest, MAX_STRING_LEN, true) {
            Parsed::Command { args, .. } if args.is_empty() => {
                Item::Malformed("a command without arguments".into())
            }
            Parsed::Command { args, used, canonical } => {
                // Lines and arguments end in a line end; anything else means that a length lies.
                if !canonical {
                    return Item::Malformed(wrong_line_end(&args, &rest[..used]));
                }
                if args[0].eq_ignore_ascii_case(b"multi") {
                    self.in_block = true;
                } else if args[0].eq_ignore_ascii_case(b"exec") || args[0].eq_ignore_ascii_case(b"discard") {
                    self.in_block = false;
                }
                self.advance(used);
                Item::Command(args)
            }
            Parsed::Incomplete(_) => Item::Torn,
            Parsed::Invalid(why) => Item::Malformed(why.trim_start_matches("ERR Protocol error: ").into()),
            Parsed::Quoted { .. } => Item::Malformed("an inline command".into()),
        }
    }

    fn advance(&mut self, used: usize) {
        self.at += used;
        if !self.in_block {
            self.whole = self.at;
        }
    }
}

/// Names the first place where a command's bytes are not what its arguments make.
fn wrong_line_end(args: &[&[u8]], bytes: &[u8]) -> String {
    let mut expected = Vec::new();
    encode_command(&mut expected, args);
    let at = expected.iter().zip(bytes).position(|(want, got)| want != got).unwrap_or_default();
    // The two bytes of the line end it is in.
    let from = at - usize::from(expected[at] == b'\n');
    format!(
        "Expected \\r\\n, got: {:02x}{:02x}",
        bytes[from],
        bytes.get(from + 1).copied().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] =
        b"#TS:12\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n\
#TS:13\r\n*1\r\n$4\r\nEXEC\r\n";

    #[test]
    fn items_come_in_order_and_a_block_is_whole_at_its_end() {
        let mut r = Reader::new(LOG, 0);
        assert!(matches!(r.item(), Item::Annotation(Some(12))));
        assert!(matches!(r.item(), Item::Command(a) if a[0] == b"SELECT"));
        let before = r.offset();
        for _ in 0..3 {
            assert!(matches!(r.item(), Item::Command(_) | Item::Annotation(Some(13))));
            assert!(r.in_block());
            assert_eq!(r.whole(), before);
        }
        assert!(matches!(r.item(), Item::Command(a) if a[0] == b"EXEC"));
        assert_eq!(r.whole(), LOG.len());
        assert!(matches!(r.item(), Item::End));
    }

    #[test]
    fn every_cut_is_found_and_ends_behind_a_whole_item_or_block() {
        let block = LOG.windows(15).position(|w| w == b"*1\r\n$5\r\nMULTI\r\n").unwrap();
        let wholes = [0, 8, block, LOG.len()];
        for len in 0..=LOG.len() {
            let mut r = Reader::new(&LOG[..len], 0);
            let end = loop {
                match r.item() {
                    Item::Command(_) | Item::Annotation(_) => {}
                    end => break end,
                }
            };
            assert!(matches!(end, Item::End | Item::Torn), "{len}: {end:?}");
            let expected = wholes.iter().copied().filter(|w| *w <= len).max().unwrap();
            assert_eq!(r.whole(), expected, "{len}");
        }
    }

    #[test]
    fn what_is_no_log_is_malformed_where_it_stands() {
        for bad in [
            b"!!!".as_slice(),
            b"*0\r\n",
            b"*x\r\n",
            b"*1\r\n:3\r\n",
            b"*1\r\n$1\r\nabcd",
            b"*2\r\n$3\r\nGETab$1\r\nk\r\n",
            b"*2\rX$3\r\nGET\r\n$1\r\nk\r\n",
            b"*2\r\n$3\rXGET\r\n$1\r\nk\r\n",
            b"SET a b\r\n",
        ] {
            let mut r = Reader::new(bad, 0);
            assert!(matches!(r.item(), Item::Malformed(_)), "{bad:?}");
            assert_eq!(r.offset(), 0);
        }
    }
}
