//! Requests of one batch, read ahead: while the first of them runs, what the others will touch is on its way from memory.
//!
//! ```text
//!  input  | run already | in the window, parsed and resolved | not looked at yet    |
//!                       ^ next                               ^ parsed
//! ```
//!
//! A window holds [`WINDOW`] requests at most, and is filled when it is empty. It belongs to one turn of one connection: what
//! was not run by the end of it is parsed again in the next. A connection that sends one request at a time fills it with that one,
//! and nothing is fetched.

use sluice_engine::Engine;
use sluice_engine::internals::Resolved;
use sluice_engine::internals::resp::{ParseState, Parsed, front};
use smallvec::SmallVec;
use std::ops::Range;

/// Requests parsed before the first of them runs.
const WINDOW: usize = 16;
/// Fewer are not worth it to fetch what they need.
const FETCH_FROM: usize = 4;
/// Their arguments are kept on the stack up to this number.
const ARGS: usize = 64;

/// A request that was parsed.
#[derive(Clone)]
pub(super) struct Ahead<'i> {
    /// What its name and its first key say, where there is such a command.
    pub(super) resolved: Option<Resolved<'i>>,
    /// Its bytes are what the log would write.
    pub(super) canonical: bool,
    /// Its bytes in the input.
    pub(super) bytes: Range<usize>,
    /// Its arguments in the list.
    args: Range<usize>,
}

/// The requests of one turn's input.
pub(super) struct Window<'i> {
    input: &'i [u8],
    args: SmallVec<[&'i [u8]; ARGS]>,
    requests: SmallVec<[Ahead<'i>; WINDOW]>,
    /// The one that runs next.
    next: usize,
    /// Bytes of the input that were parsed.
    parsed: usize,
    /// What stands behind those in the window, where that is no request to be put there.
    behind: Option<Parsed<()>>,
    /// Whether the client had signed on when they were parsed.
    authenticated: bool,
}

impl<'i> Window<'i> {
    #[inline]
    pub(super) fn new(input: &'i [u8]) -> Window<'i> {
        let (args, requests) = (SmallVec::new(), SmallVec::new());
        Window { input, args, requests, next: 0, parsed: 0, behind: None, authenticated: false }
    }

    /// The next request, and its arguments.
    #[inline]
    pub(super) fn next(&mut self) -> Option<(&Ahead<'i>, &[&'i [u8]])> {
        let request = self.requests.get(self.next)?;
        self.next += 1;
        Some((request, &self.args[request.args.clone()]))
    }

    /// Where there is no next request: fills the window with as many as are complete. True where there is one now.
    pub(super) fn fill(
        &mut self,
        engine: &Engine,
        db: u32,
        max_bulk: usize,
        authenticated: bool,
        state: &mut ParseState,
    ) -> bool {
        self.requests.clear();
        self.args.clear();
        (self.next, self.authenticated) = (0, authenticated);
        // Whoever has not signed on is asked for that with each command, and may send less at once before than after.
        let most = if authenticated { WINDOW } else { 1 };
        while self.behind.is_none() && self.requests.len() < most {
            let (from, first) = (self.parsed, self.args.len());
            match front(&self.input[from..], max_bulk, authenticated, state, &mut self.args) {
                Parsed::Command { used, canonical, .. } => {
                    self.parsed = from + used;
                    let args = first..self.args.len();
                    let resolved = engine.resolve(&self.args[args.clone()]);
                    self.requests.push(Ahead { resolved, canonical, bytes: from..self.parsed, args });
                }
                other => self.behind = Some(other),
            }
        }
        if self.requests.len() >= FETCH_FROM {
            engine.prefetch_resolved(db, self.requests.iter().filter_map(|ahead| ahead.resolved.as_ref()));
        }
        !self.requests.is_empty()
    }

    /// What stands behind the requests, when all of them were taken: something that is none, or none that is complete. It
    /// begins behind what was [parsed](Window::parsed).
    pub(super) fn take_behind(&mut self) -> Parsed<()> {
        self.behind.take().unwrap_or(Parsed::Incomplete(0))
    }

    /// Bytes of the input that were parsed.
    pub(super) fn parsed(&self) -> usize {
        self.parsed
    }

    /// Steps over bytes behind what was parsed.
    pub(super) fn step(&mut self, bytes: usize) {
        self.parsed += bytes;
    }

    /// The requests from `at` on were not run and will be parsed again: this turn ends, or what bounds a request has changed.
    #[cold]
    pub(super) fn give_back(&mut self, at: usize, state: &mut ParseState) {
        self.requests.clear();
        (self.next, self.parsed, self.behind) = (0, at, None);
        *state = ParseState::default();
    }

    /// Was the client signed on, or not, when the requests were parsed, as it is now?
    #[inline]
    pub(super) fn knew(&self, authenticated: bool) -> bool {
        self.authenticated == authenticated
    }
}
