//! Closed-loop clients: each sends a SET, waits for its answer and sends the next. One thread drives them all by
//! `poll(2)`, so that fifty clients do not cost fifty threads of a machine that has two processors.

use crate::error::{Doing, Error, Result};
use crate::latency::Percentiles;
use crate::sys;
use crate::traffic::Commands;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// A server that answers nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// What was served.
pub(crate) struct Served {
    pub(crate) writes: u64,
    pub(crate) seconds: f64,
    pub(crate) latency: Option<Percentiles>,
}

impl Served {
    /// Writes a second.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.writes as f64 / self.seconds } else { 0.0 }
    }
}

struct Connection {
    stream: TcpStream,
    sent: Instant,
    answer: Vec<u8>,
}

/// Runs so many clients against a port for so long.
pub(crate) fn run(port: u16, clients: usize, period: Duration, mut commands: Commands) -> Result<Served> {
    let connect = |_| {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).doing(|| format!("connecting to port {port}"))?;
        stream.set_nodelay(true).doing(|| "setting TCP_NODELAY".into())?;
        stream.set_nonblocking(true).doing(|| "making a socket non-blocking".into())?;
        Ok(Connection { stream, sent: Instant::now(), answer: Vec::new() })
    };
    let mut connections = (0..clients).map(connect).collect::<Result<Vec<_>>>()?;
    let mut request = Vec::new();
    let begun = Instant::now();
    for connection in &mut connections {
        connection.send(&mut commands, &mut request)?;
    }
    let mut nanos = Vec::with_capacity(1 << 20);
    let mut last = Instant::now();
    while begun.elapsed() < period {
        let streams: Vec<_> = connections.iter().map(|c| &c.stream).collect();
        let readable = sys::wait_readable(&streams, 100).doing(|| "waiting for answers".into())?;
        if readable.is_empty() && last.elapsed() > SILENCE {
            let text = format!("no answer to a SET for {} s", SILENCE.as_secs());
            return Err(Error::Reply { command: "SET".into(), reply: text });
        }
        for i in readable {
            let connection = &mut connections[i];
            if !connection.answered()? {
                continue;
            }
            last = Instant::now();
            nanos.push(u64::try_from((last - connection.sent).as_nanos()).unwrap_or(u64::MAX));
            connection.send(&mut commands, &mut request)?;
        }
    }
    Ok(Served {
        writes: nanos.len() as u64,
        seconds: begun.elapsed().as_secs_f64(),
        latency: Percentiles::of(nanos),
    })
}

impl Connection {
    fn send(&mut self, commands: &mut Commands, request: &mut Vec<u8>) -> Result<()> {
        request.clear();
        commands(request);
        self.answer.clear();
        self.sent = Instant::now();
        let mut left = request.as_slice();
        while !left.is_empty() {
            match self.stream.write(left) {
                Ok(n) => left = &left[n..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // A request fits into an idle connection's buffer, unless the server does not read at all.
                Err(e) if e.kind() == ErrorKind::WouldBlock && self.sent.elapsed() < SILENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(e) => return Err(e).doing(|| "sending a SET".into()),
            }
        }
        Ok(())
    }

    /// Whether the answer is complete.
    fn answered(&mut self) -> Result<bool> {
        let mut bytes = [0; 256];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(Error::Reply { command: "SET".into(), reply: "the server hung up".into() }),
            Ok(n) => {
                self.answer.extend_from_slice(&bytes[..n]);
                if self.answer.first() == Some(&b'-') {
                    let reply = String::from_utf8_lossy(&self.answer).trim_end().to_owned();
                    return Err(Error::Reply { command: "SET".into(), reply });
                }
                Ok(self.answer.ends_with(b"\r\n"))
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(e) => Err(e).doing(|| "reading an answer".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::net::TcpListener;

    /// Answers every line by `answer`.
    fn server(answer: &'static str) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                std::thread::spawn(move || {
                    let mut out = stream.try_clone().unwrap();
                    for _ in std::io::BufReader::new(stream).lines().map_while(std::io::Result::ok) {
                        if out.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        port
    }

    fn lines() -> Commands {
        Box::new(|out| out.extend_from_slice(b"x\n"))
    }

    #[test]
    fn every_client_goes_on_when_it_is_answered() {
        let served = run(server("+OK\r\n"), 5, Duration::from_millis(50), lines()).unwrap();
        assert!(served.writes > 5, "{}", served.writes);
        assert_eq!(served.latency.unwrap().samples as u64, served.writes);
    }

    #[test]
    fn a_refused_write_is_an_error_that_says_so() {
        let error = run(server("-MISCONF no\r\n"), 2, Duration::from_secs(5), lines()).err().unwrap();
        assert!(error.to_string().contains("MISCONF no"), "{error}");
    }
}
