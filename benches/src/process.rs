//! Real server processes: started on a free port in a scratch folder, awaited, always killed.

use crate::account::Account;
use crate::cleanup::{self, Leftover};
use crate::error::{Doing, Error, Result};
use crate::resp::{Client, Reply};
use crate::scratch::Scratch;
use crate::sys;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to answer PING; loading a big file on a slow disk is included.
const START_LIMIT: Duration = Duration::from_secs(600);
/// Lines of a failed server's log that are shown.
const LOG_LINES: usize = 12;

/// How to start a server.
pub(crate) struct Launch<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// Its options beyond the common ones.
    pub(crate) options: &'a [String],
    /// The folder its scratch folder is made in.
    pub(crate) parent: &'a Path,
    /// A file to be loaded at start, copied to `dump.rdb`.
    pub(crate) rdb: Option<&'a Path>,
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    port: u16,
    // Dropped after the process has ended, in this order.
    account: Account,
    /// Taken by [`Server::restart`] only.
    scratch: Option<Scratch>,
}

impl Server {
    /// Starts a server and waits until it answers PING.
    pub(crate) fn start(launch: &Launch<'_>) -> Result<Server> {
        Server::start_in(Scratch::new(launch.parent)?, launch)
    }

    /// Stops a server without a save and starts one on the files it left. Returns how long that took to answer.
    pub(crate) fn restart(mut self, launch: &Launch<'_>) -> Result<(Server, Duration)> {
        // SHUTDOWN answers by hanging up.
        let _ = self.client()?.command(&[b"SHUTDOWN", b"NOSAVE"]);
        self.child.wait().doing(|| "waiting for a server to end".into())?;
        let scratch = self.scratch.take();
        drop(self);
        let begun = Instant::now();
        let server = match scratch {
            Some(scratch) => Server::start_in(scratch, launch)?,
            None => Server::start(launch)?,
        };
        Ok((server, begun.elapsed()))
    }

    fn start_in(scratch: Scratch, launch: &Launch<'_>) -> Result<Server> {
        if let Some(rdb) = launch.rdb {
            let to = scratch.path().join("dump.rdb");
            std::fs::copy(rdb, &to).doing(|| format!("copying {} to {}", rdb.display(), to.display()))?;
        }
        let port = free_port()?;
        let account = Account::open();
        let mut command = Command::new(launch.program);
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(scratch.path())
            .args(launch.options)
            // Log times are read to find the first byte; UTC saves knowing the time zone.
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        let log = log_path(&scratch);
        let out = File::create(&log).doing(|| format!("creating {}", log.display()))?;
        command.stderr(out.try_clone().doing(|| "sharing the log file".into())?).stdout(out);
        sys::prepare(&mut command, account.process_files());
        let child = command.spawn().doing(|| format!("starting {}", launch.program.display()))?;
        cleanup::register(Leftover::Group(child.id()));
        let mut server = Server { child, port, account, scratch: Some(scratch) };
        server.account.watch(server.child.id());
        server.await_ready(launch.program)?;
        Ok(server)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its memory, CPU and disk bytes.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        let log = self.scratch.as_ref().and_then(|scratch| std::fs::read(log_path(scratch)).ok());
        log.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(self.port)
    }

    fn await_ready(&mut self, program: &Path) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Ok(mut client) = self.client() {
                let answer = client.command(&[b"PING"]);
                if answer.is_ok_and(|reply| reply == Reply::Simple("PONG".into())) {
                    return Ok(());
                }
            }
            let exited = self.child.try_wait().doing(|| "waiting for a server".into())?;
            let late = begun.elapsed() > START_LIMIT;
            if exited.is_some() || late {
                let what = match exited {
                    Some(status) => format!("ended with {status}"),
                    None => format!("did not answer PING within {} s", START_LIMIT.as_secs()),
                };
                let log = self.log();
                let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
                let log = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
                return Err(Error::Start { program: program.display().to_string(), what, log });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        cleanup::dispose(&Leftover::Group(self.child.id()));
        let _ = self.child.wait();
    }
}

fn log_path(scratch: &Scratch) -> PathBuf {
    scratch.path().join("server.log")
}

/// A port nobody listens on now. The system hands them out in turn, so two servers starting
/// together do not get the same one.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing(|| "finding a free port".into())?;
    Ok(listener.local_addr().doing(|| "finding a free port".into())?.port())
}
