//! The arguments of SHUTDOWN.

use sluice_engine::internals::CmdError;

use crate::config::OnSignal;

/// What a SHUTDOWN asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Leave, saving as told (or, told nothing, if save points are set).
    Leave(OnSignal),
    /// Give up a shutdown that is under way.
    Abort,
}

/// Reads the words after SHUTDOWN.
pub(crate) fn parse(args: &[&[u8]]) -> Result<Shutdown, CmdError> {
    let mut leave = OnSignal::default();
    let mut abort = false;
    for word in args {
        match word.to_ascii_lowercase().as_slice() {
            b"save" if !leave.nosave => leave.save = true,
            b"nosave" if !leave.save => leave.nosave = true,
            b"now" => leave.now = true,
            b"force" => leave.force = true,
            b"abort" => abort = true,
            _ => return Err(CmdError::Syntax),
        }
    }
    match (abort, leave == OnSignal::default()) {
        (false, _) => Ok(Shutdown::Leave(leave)),
        (true, true) => Ok(Shutdown::Abort),
        (true, false) => Err(CmdError::Syntax),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_exclude_each_other_as_in_redis() {
        let parse = |text: &str| parse(&text.split_whitespace().map(str::as_bytes).collect::<Vec<_>>());
        assert_eq!(parse(""), Ok(Shutdown::Leave(OnSignal::default())));
        assert_eq!(
            parse("NOSAVE now force"),
            Ok(Shutdown::Leave(OnSignal { save: false, nosave: true, now: true, force: true }))
        );
        assert_eq!(parse("abort"), Ok(Shutdown::Abort));
        for bad in ["foo", "save nosave", "nosave save", "now abort"] {
            assert_eq!(parse(bad), Err(CmdError::Syntax), "{bad}");
        }
    }
}
