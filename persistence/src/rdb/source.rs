//! Where a decoder's bytes come from.
//!
//! A [`Source`] shows a *window*: bytes read and not yet consumed. The decoder parses inside the window and
//! hands out slices of it, so that a value is copied once, from here to the engine. Windows grow only as
//! bytes really arrive: a length in the stream never allocates by itself.

use crate::storage::FileReader;
use std::io::{self, Read};

/// Bytes to decode.
pub trait Source {
    /// What was read and not consumed.
    fn window(&self) -> &[u8];
    /// Reads until the window has `want` bytes, and returns whether it has: false means that the input, or
    /// what there is of it so far, ended.
    fn fill(&mut self, want: usize) -> io::Result<bool>;
    /// Drops the first `n` bytes of the window.
    fn consume(&mut self, n: usize);
}

/// Bytes that are all there already.
impl Source for &[u8] {
    #[inline]
    fn window(&self) -> &[u8] {
        self
    }

    fn fill(&mut self, want: usize) -> io::Result<bool> {
        Ok(self.len() >= want)
    }

    fn consume(&mut self, n: usize) {
        *self = &self[n..];
    }
}

/// Read ahead of the decoder in an opened file.
const PREFETCH: usize = 1 << 20;

/// A file, read through its mapping.
pub struct FileSource<'a> {
    file: &'a dyn FileReader,
    /// Bytes consumed, and the end of what was prefetched: the window is between.
    at: usize,
    end: usize,
}

impl<'a> FileSource<'a> {
    /// Reads `file` from its start.
    pub fn new(file: &'a dyn FileReader) -> Self {
        Self { file, at: 0, end: 0 }
    }
}

impl Source for FileSource<'_> {
    #[inline]
    fn window(&self) -> &[u8] {
        &self.file.bytes()[self.at..self.end]
    }

    fn fill(&mut self, want: usize) -> io::Result<bool> {
        let available = self.file.bytes().len();
        let wanted = self.at.saturating_add(want.max(PREFETCH)).min(available);
        if wanted > self.end {
            self.file.prefetch(self.end as u64..wanted as u64)?;
            self.end = wanted;
        }
        Ok(self.end - self.at >= want)
    }

    fn consume(&mut self, n: usize) {
        self.at = (self.at + n).min(self.end);
    }
}

/// Space for reads from a stream; larger items make it grow.
const READ_BUFFER: usize = 256 * 1024;

/// A stream, read through a buffer.
#[derive(Debug)]
pub struct ReadSource<R> {
    inner: R,
    /// The window is `start..end`; the rest is space.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes that may still be read.
    limit: u64,
}

impl<R: Read> ReadSource<R> {
    /// Reads `inner` to its end.
    pub fn new(inner: R) -> Self {
        Self::with_limit(inner, u64::MAX)
    }

    /// Reads `limit` bytes of `inner` at most, and not one beyond.
    pub fn with_limit(inner: R, limit: u64) -> Self {
        Self { inner, buffer: vec![0; READ_BUFFER], start: 0, end: 0, limit }
    }

    /// The stream and what was read from it but not consumed.
    pub fn into_parts(mut self) -> (R, Vec<u8>) {
        self.buffer.truncate(self.end);
        self.buffer.drain(..self.start);
        (self.inner, self.buffer)
    }

    /// Makes space behind the window, growing the buffer to at most twice what it holds. It grows by more than is wanted:
    /// a value that stays in the window while it is read in small items would else be read in as small pieces.
    fn make_space(&mut self, want: usize) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            let doubled = self.buffer.len() * 2;
            self.buffer.resize(doubled.min(want.saturating_add(READ_BUFFER)).max(self.end + 1), 0);
        }
    }
}

impl<R: Read> Source for ReadSource<R> {
    #[inline]
    fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn fill(&mut self, want: usize) -> io::Result<bool> {
        while self.end - self.start < want {
            if self.limit == 0 {
                return Ok(false);
            }
            if self.end == self.buffer.len() || self.start + want > self.buffer.len() {
                self.make_space(want);
            }
            let most = usize::try_from(self.limit).unwrap_or(usize::MAX).min(self.buffer.len() - self.end);
            match self.inner.read(&mut self.buffer[self.end..self.end + most]) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    self.end += n;
                    self.limit -= n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = out.len().min(self.0.len()).min(1 + self.0.len() % 7);
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn a_stream_comes_whole_through_a_moving_window() {
        let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n * 7) as u8).collect();
        let mut source = ReadSource::new(Dribble(&bytes));
        let mut at = 0;
        for want in (0..).map(|n: usize| (n * n) % 300_000 + 1) {
            if !source.fill(want).unwrap() {
                break;
            }
            assert_eq!(source.window()[..want], bytes[at..at + want]);
            source.consume(want);
            at += want;
        }
        assert_eq!(source.window(), &bytes[at..]);
        assert!(source.buffer.len() <= 600_000);
    }

    #[test]
    fn a_length_that_lies_allocates_no_more_than_twice_what_came() {
        let mut source = ReadSource::new(&[1u8; 300_000][..]);
        assert!(!source.fill(1 << 40).unwrap());
        assert!(source.buffer.len() <= 1 << 20, "{}", source.buffer.len());
    }

    #[test]
    fn a_limit_leaves_the_rest_in_the_stream() {
        let mut source = ReadSource::with_limit(&b"twelve bytesREST"[..], 12);
        assert!(source.fill(12).unwrap());
        assert!(!source.fill(13).unwrap());
        source.consume(7);
        let (rest, unread) = source.into_parts();
        assert_eq!((rest, &unread[..]), (&b"REST"[..], &b"bytes"[..]));
    }
}
