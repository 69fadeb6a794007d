//! The handshake's replies: PING, AUTH, REPLCONF and PSYNC, judged as Redis judges them.
//!
//! AUTH and the REPLCONFs are sent in one go and answered in order; only AUTH's refusal is fatal, since
//! old or foreign primaries may not know every REPLCONF option.

use super::{Action, Level, ReplicaLink, State};
use crate::replid::ReplId;
use crate::wire::{encode_command, parse_i64, printable};
use sluice_engine::internals::MAX_OFFSET;

/// Replies still expected, in this order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    auth: bool,
    port: bool,
    ip: bool,
    capa: bool,
}

impl ReplicaLink {
    pub(super) fn on_pong(&mut self, line: &[u8]) {
        // A primary that wants a password says so now; AUTH comes next.
        let tolerated = line[0] == b'+'
            || line.starts_with(b"-NOAUTH")
            || line.starts_with(b"-NOPERM")
            || line.starts_with(b"-ERR operation not permitted");
        if !tolerated {
            return self.abort(format!("Error reply to PING from master: '{}'", printable(line)));
        }
        self.log(Level::Notice, "Master replied to PING, replication can continue...".into());
        let mut pending = Pending { auth: false, port: true, ip: false, capa: true };
        if let Some(password) = &self.config.password {
            pending.auth = true;
            match &self.config.user {
                Some(user) => encode_command(&mut self.out, &[b"AUTH", user.as_bytes(), password.as_bytes()]),
                None => encode_command(&mut self.out, &[b"AUTH", password.as_bytes()]),
            }
        }
        let port = self.config.listening_port.to_string();
        encode_command(&mut self.out, &[b"REPLCONF", b"listening-port", port.as_bytes()]);
        if let Some(ip) = &self.config.announce_ip {
            pending.ip = true;
            encode_command(&mut self.out, &[b"REPLCONF", b"ip-address", ip.as_bytes()]);
        }
        let mut capa: Vec<&[u8]> = vec![b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"];
        if self.config.offer_sluice {
            capa.extend([&b"capa"[..], b"sluice"]);
        }
        encode_command(&mut self.out, &capa);
        self.state = State::Handshake(pending);
    }

    pub(super) fn on_handshake_reply(&mut self, mut pending: Pending, line: &[u8]) {
        let refused = line[0] == b'-';
        if !refused && line[0] != b'+' {
            return self
                .abort(format!("Unexpected reply from master during the handshake: '{}'", printable(line)));
        }
        if pending.auth {
            if refused {
                return self.abort(format!("Unable to AUTH to MASTER: {}", printable(line)));
            }
            pending.auth = false;
        } else {
            let option = if pending.port {
                pending.port = false;
                "listening-port"
            } else if pending.ip {
                pending.ip = false;
                "ip-address"
            } else {
                pending.capa = false;
                "capa"
            };
            if refused {
                let text = printable(line);
                self.log(
                    Level::Notice,
                    format!("(Non critical) Master does not understand REPLCONF {option}: {text}"),
                );
            }
        }
        if pending.port || pending.ip || pending.capa {
            self.state = State::Handshake(pending);
        } else {
            self.send_psync();
        }
    }

    fn send_psync(&mut self) {
        match self.resume {
            Some(point) => {
                // The wire asks for the next byte, counting from one.
                let from = (point.offset + 1).to_string();
                self.log(
                    Level::Notice,
                    format!("Trying a partial resynchronization (request {}:{from}).", point.replid),
                );
                let mut words: Vec<&[u8]> = vec![b"PSYNC", point.replid.as_bytes(), from.as_bytes()];
                if self.config.failover {
                    words.push(b"FAILOVER");
                    // Redis looks no further than the word before.
                    words.extend(self.config.forced.then_some(b"FORCE".as_slice()));
                }
                encode_command(&mut self.out, &words);
            }
            None => {
                self.log(Level::Notice, "Partial resynchronization not possible (no cached master)".into());
                encode_command(&mut self.out, &[b"PSYNC", b"?", b"-1"]);
            }
        }
        self.state = State::Psync;
    }

    pub(super) fn on_psync_reply(&mut self, line: &[u8]) {
        if let Some(rest) = line.strip_prefix(b"+FULLRESYNC") {
            return match parse_fullresync(rest) {
                Some((replid, offset)) => {
                    self.log(Level::Notice, format!("Full resync from master: {replid}:{offset}"));
                    self.begin_full_sync(Some(replid), Some(offset));
                }
                None => {
                    self.abort(format!("Master replied with wrong +FULLRESYNC syntax: '{}'", printable(line)))
                }
            };
        }
        if let Some(rest) = line.strip_prefix(b"+CONTINUE") {
            return self.on_continue(rest, line);
        }
        if self.config.failover {
            self.refused = true;
            return self.abort(format!("Failover target rejected psync request: {}", printable(line)));
        }
        if line.starts_with(b"-NOMASTERLINK") || line.starts_with(b"-LOADING") {
            return self.abort(format!(
                "Master is currently unable to PSYNC but should be in the future: {}",
                printable(line)
            ));
        }
        if line.starts_with(b"-ERR") {
            self.log(
                Level::Notice,
                format!("Master does not support PSYNC or is in error state (reply: {})", printable(line)),
            );
        } else if line[0] == b'-' {
            self.log(Level::Warning, format!("Unexpected reply to PSYNC from master: {}", printable(line)));
        } else {
            return self.abort(format!("Unexpected reply to PSYNC from master: {}", printable(line)));
        }
        self.log(Level::Notice, "Retrying with SYNC...".into());
        self.out.extend_from_slice(b"SYNC\r\n");
        self.acks = false;
        self.begin_full_sync(None, None);
    }

    fn begin_full_sync(&mut self, replid: Option<ReplId>, offset: Option<u64>) {
        self.replid = replid;
        self.offset = offset.unwrap_or(0);
        self.queued.push_back(Action::FullSync { replid, offset });
        self.state = State::Header;
    }

    fn on_continue(&mut self, rest: &[u8], line: &[u8]) {
        let Some(resume) = self.resume else {
            return self.abort("Master accepted a partial resynchronization that was not asked for".into());
        };
        let rest = rest.trim_ascii();
        let replid = match (rest.is_empty(), ReplId::parse(rest)) {
            (true, _) => None,
            (false, Some(id)) => Some(id),
            (false, None) => {
                return self.abort(format!("Unexpected reply to PSYNC from master: {}", printable(line)));
            }
        };
        self.log(Level::Notice, "Successful partial resynchronization with master.".into());
        if let Some(id) = replid.filter(|id| *id != resume.replid) {
            self.log(Level::Notice, format!("Master replication ID changed to {id}"));
        }
        self.replid = replid.or(Some(resume.replid));
        self.offset = resume.offset;
        self.queued.push_back(Action::Continue { replid });
        self.state = State::Streaming;
    }
}

/// ` <replid> <offset>`, and further words a newer primary may add.
fn parse_fullresync(rest: &[u8]) -> Option<(ReplId, u64)> {
    let mut words = rest.strip_prefix(b" ")?.split(|&b| b == b' ');
    let replid = ReplId::parse(words.next()?)?;
    let offset = u64::try_from(parse_i64(words.next()?)?).ok()?;
    (offset <= MAX_OFFSET).then_some((replid, offset))
}
