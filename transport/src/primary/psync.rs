//! PSYNC: continue from the log, or full sync?

use super::Capabilities;
use crate::replid::ReplId;
use crate::state::ReplicationState;
use crate::wire::{parse_i64, printable};

/// What a replica asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PsyncRequest {
    /// Its replication id as sent; `?` when it has none.
    replid: Vec<u8>,
    /// The next byte it wants, counting from one.
    wire_offset: i64,
}

impl PsyncRequest {
    /// Parses the arguments of `PSYNC <replid> <offset>`. `None` when the offset is no number, which Redis answers
    /// with `ERR value is not an integer or out of range`.
    pub fn parse(replid: &[u8], offset: &[u8]) -> Option<Self> {
        Some(Self { replid: replid.to_vec(), wire_offset: parse_i64(offset)? })
    }

    /// Whether it hoped for a partial resync: then a full one counts in `sync_partial_err`.
    pub fn wants_partial(&self) -> bool {
        self.replid.first() != Some(&b'?')
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PsyncDecision {
    /// Send `reply`, then the log from offset `from` on.
    Continue {
        /// Log offset of the first byte to send.
        from: u64,
        /// `+CONTINUE...` line.
        reply: Vec<u8>,
        /// For the log file.
        log: String,
    },
    /// Queue it for a full sync.
    Full {
        /// For the log file.
        log: String,
    },
}

/// Decides, for a log that holds offsets `held` (first byte kept .. end; `None` without a backlog).
/// `name` is the replica's `ip:port`, for the log lines, which are Redis'.
pub fn decide(
    state: &ReplicationState,
    held: Option<std::ops::Range<u64>>,
    request: &PsyncRequest,
    capa: Capabilities,
    name: &str,
) -> PsyncDecision {
    let full = |log: String| PsyncDecision::Full { log };
    if !request.wants_partial() {
        return full(format!("Full resync requested by replica {name}"));
    }
    // The wire counts from one; an offset below one can only be garbage.
    let from = u64::try_from(request.wire_offset).ok().and_then(|o| o.checked_sub(1));
    let (replid, replid2) = (state.replid(), state.replid2());
    let asked =
        ReplId::parse(&request.replid).filter(|id| *id == replid || (*id == replid2 && !id.is_none()));
    let Some(asked) = asked else {
        return full(format!(
            "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{}', my \
             replication IDs are '{replid}' and '{replid2}')",
            printable(&request.replid),
        ));
    };
    let wire = request.wire_offset;
    let Some(from) = from.filter(|from| state.shares(&asked, *from)) else {
        return full(format!(
            "Partial resynchronization not accepted: Requested offset for second ID was {wire}, but I can reply \
             up to {}",
            state.second_repl_offset()
        ));
    };
    let Some(held) = held.filter(|h| h.start <= from && from <= h.end) else {
        return full(format!(
            "Unable to partial resync with replica {name} for lack of backlog (Replica request was: {wire})."
        ));
    };
    let reply = if capa.psync2 { format!("+CONTINUE {replid}\r\n") } else { "+CONTINUE\r\n".to_owned() };
    PsyncDecision::Continue {
        from,
        reply: reply.into_bytes(),
        log: format!(
            "Partial resynchronization request from {name} accepted. Sending {} bytes of backlog starting from \
             offset {wire}.",
            held.end - from
        ),
    }
}

/// The line that begins a full sync from a cut at log offset `offset`.
pub fn fullresync_line(replid: &ReplId, offset: u64) -> Vec<u8> {
    format!("+FULLRESYNC {replid} {offset}\r\n").into_bytes()
}
