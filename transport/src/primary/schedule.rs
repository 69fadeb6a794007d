//! The delay window: when the next full sync starts, for whom, and how.
//!
//! A diskless sync is one stream for everybody who is there when it begins, so it waits
//! `repl-diskless-sync-delay` for more replicas to arrive, or until `repl-diskless-sync-max-replicas` are there.
//! A disk-staged one starts at once; who asks while the file is being written is
//! attached to it. Only one cut is taken at a time.
//!
//! Those gathered share one cut and one payload: frames if all of them read frames, else the RDB stream that all of
//! them read. Replicas that cannot share a payload (by a file, other filter) wait for a sync of their own; whoever
//! asked first goes first.

use super::{Capabilities, RdbFilter};

/// `repl-transport`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportChoice {
    /// As `repl-diskless-sync` says: `no` is disk, `yes` is socket.
    #[default]
    Auto,
    /// Disk-staged.
    Disk,
    /// Diskless, plain sockets.
    Socket,
    /// Diskless over io_uring.
    IoUring,
}

impl TransportChoice {
    /// Parses the configuration's word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "auto" => Self::Auto,
            "disk" => Self::Disk,
            "socket" => Self::Socket,
            "io-uring" => Self::IoUring,
            _ => return None,
        })
    }

    /// The configuration's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Disk => "disk",
            Self::Socket => "socket",
            Self::IoUring => "io-uring",
        }
    }
}

/// How a full sync travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By a file.
    Disk,
    /// Through a window of shared chunks, by `writev`.
    Socket,
    /// The same window, by io_uring.
    IoUring,
}

impl Transport {
    /// As INFO prints it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Socket => "socket",
            Self::IoUring => "io-uring",
        }
    }
}

/// What the payload looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An RDB file with a length (only from disk).
    SizedRdb,
    /// An RDB stream that ends with a mark.
    EofRdb,
    /// Frames of cut and log.
    Sluice,
}

/// The configuration the schedule goes by; read anew at each call, so CONFIG SET takes effect at once.
#[derive(Clone, Copy, Debug)]
pub struct SyncPolicy {
    /// `repl-transport`.
    pub choice: TransportChoice,
    /// `repl-diskless-sync`.
    pub diskless: bool,
    /// `repl-diskless-sync-delay`, in milliseconds.
    pub delay_ms: u64,
    /// `repl-diskless-sync-max-replicas`; 0 is no limit.
    pub max_replicas: usize,
    /// Whether to use the framed format with replicas that offered it.
    pub sluice: bool,
}

impl SyncPolicy {
    /// How a replica with these capabilities is served. A part of the data goes the way of a stream, whatever is configured:
    /// the file on the disk is of all of it. Who wants one reads that (see [`super::ReplicaPeer::refusal`]).
    pub fn plan(&self, capa: Capabilities, filter: RdbFilter) -> (Transport, Format) {
        if filter != RdbFilter::ALL {
            let uring = self.choice == TransportChoice::IoUring;
            return (if uring { Transport::IoUring } else { Transport::Socket }, Format::EofRdb);
        }
        let wanted = match (self.choice, self.diskless) {
            (TransportChoice::Disk, _) | (TransportChoice::Auto, false) => Transport::Disk,
            (TransportChoice::IoUring, _) => Transport::IoUring,
            (TransportChoice::Socket, _) | (TransportChoice::Auto, true) => Transport::Socket,
        };
        match wanted {
            Transport::Disk => (Transport::Disk, Format::SizedRdb),
            t if self.sluice && capa.sluice => (t, Format::Sluice),
            t if capa.eof => (t, Format::EofRdb),
            _ => (Transport::Disk, Format::SizedRdb),
        }
    }
}

/// One full sync to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number of this sync, for the calls that follow.
    pub id: u64,
    /// How.
    pub transport: Transport,
    /// What.
    pub format: Format,
    /// Which parts of the data.
    pub filter: RdbFilter,
    /// For whom (peer ids).
    pub replicas: Vec<u64>,
    /// How long the first of them waited.
    pub window_ms: u64,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// It waits for [`Schedule::poll`] to return a batch with it.
    Queued,
    /// It joins the disk-staged sync that is being written: answer it with that sync's FULLRESYNC line and
    /// send it the file too, then the log from that cut's offset.
    Attached {
        /// [`Batch::id`].
        batch: u64,
    },
}

#[derive(Clone, Debug)]
struct Waiting {
    id: u64,
    since: u64,
    capa: Capabilities,
    filter: RdbFilter,
}

#[derive(Clone, Debug)]
struct Running {
    batch: u64,
    filter: RdbFilter,
    /// The file is not complete yet: replicas can still be attached.
    staging: bool,
}

/// The state machine of the delay window.
#[derive(Debug, Default)]
pub struct Schedule {
    waiting: Vec<Waiting>,
    running: Option<Running>,
    batches: u64,
}

impl Schedule {
    /// A replica asks for a full sync.
    pub fn request(
        &mut self,
        id: u64,
        capa: Capabilities,
        filter: RdbFilter,
        policy: &SyncPolicy,
        now: u64,
    ) -> Requested {
        self.leave(id);
        if let Some(r) = &self.running
            && r.staging
            && r.filter == filter
            && policy.plan(capa, filter).0 == Transport::Disk
        {
            return Requested::Attached { batch: r.batch };
        }
        self.waiting.push(Waiting { id, since: now, capa, filter });
        Requested::Queued
    }

    /// A waiting replica disconnected.
    pub fn leave(&mut self, id: u64) {
        self.waiting.retain(|w| w.id != id);
    }

    /// Replicas waiting for a sync to start.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a cut is being taken for a sync.
    pub fn busy(&self) -> bool {
        self.running.is_some()
    }

    /// The batch to start now, if it is time. Until [`Schedule::cut_taken`] no other starts.
    pub fn poll(&mut self, policy: &SyncPolicy, now: u64) -> Option<Batch> {
        if self.deadline(policy)? > now {
            return None;
        }
        let first = self.waiting.first()?.clone();
        let (transport, mut format) = policy.plan(first.capa, first.filter);
        let replicas: Vec<u64> = self.group(policy).map(|w| w.id).collect();
        if self.group(policy).any(|w| policy.plan(w.capa, w.filter).1 == Format::EofRdb) {
            format = Format::EofRdb;
        }
        self.waiting.retain(|w| !replicas.contains(&w.id));
        self.batches += 1;
        let batch = Batch {
            id: self.batches,
            transport,
            format,
            filter: first.filter,
            replicas,
            window_ms: now.saturating_sub(first.since),
        };
        let staging = transport == Transport::Disk;
        self.running = Some(Running { batch: batch.id, filter: batch.filter, staging });
        Some(batch)
    }

    /// When [`Schedule::poll`] will return a batch if nothing else happens: the driver's next timer.
    pub fn deadline(&self, policy: &SyncPolicy) -> Option<u64> {
        if self.running.is_some() {
            return None;
        }
        let first = self.waiting.first()?;
        let full = policy.max_replicas > 0 && self.group(policy).count() >= policy.max_replicas;
        let partial = first.filter != RdbFilter::ALL;
        let at_once = full || partial || policy.plan(first.capa, first.filter).0 == Transport::Disk;
        Some(if at_once { first.since } else { first.since.saturating_add(policy.delay_ms) })
    }

    /// The cut of this batch is complete (its file staged, or its last chunk produced), or it failed or was
    /// abandoned: the next may start, even while slow replicas still receive this one.
    pub fn cut_taken(&mut self, batch: u64) {
        if self.running.as_ref().is_some_and(|r| r.batch == batch) {
            self.running = None;
        }
    }

    /// Those who can share a payload with the one who waited longest.
    fn group<'a>(&'a self, policy: &'a SyncPolicy) -> impl Iterator<Item = &'a Waiting> {
        let key = |w: &Waiting| (policy.plan(w.capa, w.filter).0, w.filter);
        let first = self.waiting.first().map(key);
        self.waiting.iter().filter(move |w| Some(key(w)) == first)
    }
}
