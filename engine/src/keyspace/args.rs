//! What arguments of commands say, whatever the command.

use crate::error::{CmdResult, Error as CmdError};

/// Parses an integer argument.
#[inline]
pub(crate) fn int_arg(arg: &[u8]) -> Result<i64, CmdError> {
    crate::num::parse_i64(arg).ok_or(CmdError::NotInteger)
}

/// Refuses with `ERR syntax error` unless `ok`.
pub(crate) fn syntax(ok: bool) -> CmdResult {
    if ok { Ok(()) } else { Err(CmdError::Syntax) }
}
