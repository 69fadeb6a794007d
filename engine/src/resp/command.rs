//! A command as a RESP array of bulk strings: how the log, files and replicas have it.
//!
//! Each length has one spelling, so a command has one encoding.

use bytes::BufMut;

/// Writes the head of a command of so many arguments, which follow.
#[inline]
pub(crate) fn encode_head(buf: &mut impl BufMut, args: usize) {
    length(buf, b'*', args);
}

/// Writes one argument.
#[inline]
pub(crate) fn encode_arg(buf: &mut impl BufMut, arg: &[u8]) {
    length(buf, b'$', arg.len());
    buf.put_slice(arg);
    buf.put_slice(b"\r\n");
}

/// Writes a whole command.
pub fn encode_command(buf: &mut impl BufMut, args: &[&[u8]]) {
    encode_head(buf, args.len());
    args.iter().for_each(|arg| encode_arg(buf, arg));
}

#[inline]
fn length(buf: &mut impl BufMut, mark: u8, n: usize) {
    buf.put_u8(mark);
    buf.put_slice(itoa::Buffer::new().format(n).as_bytes());
    buf.put_slice(b"\r\n");
}
