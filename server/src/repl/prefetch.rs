//! Reading ahead while a full sync is loaded: a second thread moves bytes out of the socket, so that the kernel's
//! copying and the decoding overlap. It runs for the time of a payload only: for the stream that follows, one more
//! thread between socket and data would only add latency.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// Buffers read and not yet taken; the socket's own buffer holds back the primary beyond that.
const BUFFERS: usize = 4;

/// A buffer and how much of it was read; 0 at the end of the connection.
type Filled = std::io::Result<(Box<[u8]>, usize)>;

/// A reader thread at work. Dropped, it ends within the socket's read time-out.
pub(crate) struct Prefetch {
    full: Receiver<Filled>,
    spare: Sender<Box<[u8]>>,
    stop: Arc<AtomicBool>,
}

/// What came.
pub(crate) enum Ahead {
    /// This many bytes are in the buffer that was given.
    Bytes(usize),
    /// Nothing in time.
    Nothing,
    /// The connection failed.
    Failed(std::io::Error),
    /// The thread has ended as told, and everything it read was taken: read from the socket again.
    Over,
}

impl Prefetch {
    /// Starts reading `stream`, which has a read time-out, into buffers of `size` bytes. `None` where no thread
    /// can be had: then the caller reads itself.
    pub(crate) fn start(stream: &TcpStream, size: usize) -> Option<Prefetch> {
        let stream = stream.try_clone().ok()?;
        let (to, full) = sync_channel(BUFFERS);
        let (spare, from) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        std::thread::Builder::new()
            .name("sync-reader".into())
            .spawn(move || read_ahead(stream, size, &to, &from, &told))
            .ok()?;
        Some(Prefetch { full, spare, stop })
    }

    /// Tells the thread to end; what it has read is still there to be taken.
    pub(crate) fn finish(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Exchanges `buffer` for the next one read.
    pub(crate) fn next(&self, buffer: &mut Box<[u8]>, wait: Duration) -> Ahead {
        match self.full.recv_timeout(wait) {
            Ok(Ok((read, n))) => {
                let _ = self.spare.send(std::mem::replace(buffer, read));
                Ahead::Bytes(n)
            }
            Ok(Err(e)) => Ahead::Failed(e),
            Err(RecvTimeoutError::Timeout) => Ahead::Nothing,
            Err(RecvTimeoutError::Disconnected) => Ahead::Over,
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.finish();
    }
}

fn read_ahead(
    mut stream: TcpStream,
    size: usize,
    to: &SyncSender<Filled>,
    spare: &Receiver<Box<[u8]>>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Acquire) {
        let mut buffer = spare.try_recv().unwrap_or_else(|_| vec![0; size].into_boxed_slice());
        let filled = loop {
            match stream.read(&mut buffer) {
                Ok(n) => break Ok((buffer, n)),
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) =>
                {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                }
                Err(e) => break Err(e),
            }
        };
        let last = !matches!(filled, Ok((_, 1..)));
        if to.send(filled).is_err() || last {
            return;
        }
    }
}
