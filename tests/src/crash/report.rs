//! What a mode's kills came to, and the table of all modes.

use super::mode::Mode;
use super::writer::History;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// What came of one mode.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Processes killed.
    pub kills: u32,
    /// Of these, while loading.
    pub kills_loading: u32,
    /// Of these, while a snapshot, a rewrite or a full sync ran.
    pub kills_busy: u32,
    /// Units (commands and MULTI blocks) sent.
    pub sent: u64,
    /// Units acknowledged.
    pub acknowledged: u64,
    /// Units that had to be there, and were looked for.
    pub checked: u64,
    /// Acknowledged, not promised, and gone.
    pub gone: u64,
    /// Promised, and gone.
    pub lost: u64,
    /// Data that no number of whole units makes.
    pub half_applied: u64,
    /// What was wrong, in words.
    pub failures: Vec<String>,
    /// Folders kept for a look.
    pub kept: Vec<PathBuf>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Tally {
    /// Counts the writes of one run.
    pub(crate) fn count(&mut self, histories: &[History]) {
        for history in histories {
            self.sent += history.sent.len() as u64;
            self.acknowledged += history.acknowledged.len() as u64;
        }
    }
}

/// A table of modes and what came of them.
pub fn table(rows: &[(&Mode, Tally)]) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; 10]| {
        let [name, promise, rest @ ..] = cells;
        write!(text, "{name:<20} {promise:<20}").expect("a string takes text");
        for cell in rest {
            write!(text, " {cell:>12}").expect("a string takes text");
        }
        text.push('\n');
    };
    line([
        "mode",
        "promise",
        "kills",
        "busy/loading",
        "sent",
        "acknowledged",
        "checked",
        "gone",
        "lost",
        "half-applied",
    ]);
    let mut all = Tally::default();
    let row = |name: &str, promise: &str, t: &Tally| {
        [
            name.to_owned(),
            promise.to_owned(),
            t.kills.to_string(),
            format!("{}/{}", t.kills_busy, t.kills_loading),
            t.sent.to_string(),
            t.acknowledged.to_string(),
            t.checked.to_string(),
            t.gone.to_string(),
            t.lost.to_string(),
            t.half_applied.to_string(),
        ]
    };
    for (mode, t) in rows {
        line(row(mode.name, mode.promise.name(), t).each_ref().map(String::as_str));
        all.kills += t.kills;
        all.kills_busy += t.kills_busy;
        all.kills_loading += t.kills_loading;
        all.sent += t.sent;
        all.acknowledged += t.acknowledged;
        all.checked += t.checked;
        all.gone += t.gone;
        all.lost += t.lost;
        all.half_applied += t.half_applied;
    }
    line(row("all", "", &all).each_ref().map(String::as_str));
    text.push_str(
        "sent, acknowledged, checked: units, that is single commands or whole MULTI blocks. checked: promised, and looked\n\
         for. gone: acknowledged but not promised, and not there. lost: promised and not there. Kills: of the process (-9).\n",
    );
    text
}
