//! Server processes: started on a free port in a scratch folder, spoken to, and always ended.

use crate::client::{Client, Reply};
use crate::program::Program;
use crate::wait::{LIMIT, until};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;
use tempfile::TempDir;

/// The last lines of a failed test's server log that are shown.
const LOG_SHOWN: usize = 4000;

/// How to start a server.
#[derive(Clone)]
pub struct Start {
    program: Program,
    args: Vec<String>,
    dir: Arc<TempDir>,
    port: Option<u16>,
    before: Option<String>,
}

impl Start {
    /// A server with `options` like `--repl-transport disk` (words; `''` is an empty one), without save points.
    pub fn new(program: Program, options: &str) -> Start {
        let dir =
            Arc::new(tempfile::Builder::new().prefix("sluice-test-").tempdir().expect("a scratch folder"));
        let mut start = Start { program, args: Vec::new(), dir, port: None, before: None };
        start = start.and("--save '' --enable-debug-command yes --repl-diskless-sync-delay 0");
        start.and(options)
    }

    /// With more options.
    pub fn and(mut self, options: &str) -> Start {
        self.args
            .extend(options.split_whitespace().map(|w| if w == "''" { String::new() } else { w.into() }));
        self
    }

    /// On this port.
    pub fn port(mut self, port: u16) -> Start {
        self.port = Some(port);
        self
    }

    /// In this folder, which may hold a dump.rdb.
    pub fn dir(mut self, dir: &Arc<TempDir>) -> Start {
        self.dir = dir.clone();
        self
    }

    /// After these words of shell, such as `ulimit -f 1`.
    pub fn after(mut self, shell: &str) -> Start {
        self.before = Some(shell.to_owned());
        self
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    ///
    /// When it ends instead; its log is in the message.
    #[track_caller]
    pub fn up(self) -> Server {
        let program = self.program;
        self.try_up().unwrap_or_else(|(status, log)| panic!("{program:?} ended with {status}:\n{log}"))
    }

    /// Starts it and waits until it serves, or ends: then how, and what it said. Where somebody took the free port in
    /// between, it gets another.
    #[track_caller]
    pub fn try_up(self) -> Result<Server, (ExitStatus, String)> {
        let again = self.clone();
        match self.once() {
            Err((_, log)) if again.port.is_none() && log.contains("Address already in use") => again.once(),
            outcome => outcome,
        }
    }

    #[track_caller]
    fn once(self) -> Result<Server, (ExitStatus, String)> {
        let mut server = self.spawn();
        let answers = until("the server answers", || {
            if let Some(status) = server.ended() {
                return Some(Err(status));
            }
            let reply = server.connect()?.try_run(&["PING"]).ok()?;
            // An error may hide that it is loading, as a missing password comes first.
            let ready = !reply.is_error() || server.log().contains("Ready to accept connections");
            let loading = matches!(&reply, Reply::Error(text) if text.starts_with("LOADING"));
            (ready && !loading).then_some(Ok(()))
        });
        match answers {
            Ok(()) => Ok(server),
            Err(status) => Err((status, server.log())),
        }
    }

    /// Starts it, expecting that it refuses and ends; returns how, and what it said.
    #[track_caller]
    pub fn refused(self) -> (ExitStatus, String) {
        let mut server = self.spawn();
        let status = server.wait_for_end();
        (status, server.log())
    }

    /// Starts it and does not wait.
    pub fn spawn(self) -> Server {
        let port = self.port.unwrap_or_else(free_port);
        let log_path = self.dir.path().join("log");
        let log = OpenOptions::new().create(true).append(true).open(&log_path).expect("a log file");
        let mut command = command(&self);
        command.args(["--port", &port.to_string(), "--dir"]).arg(self.dir.path()).args(&self.args);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.program.path().display()));
        Server { program: self.program, child, port, dir: self.dir, log_path }
    }
}

/// The program, so that it ends with the thread that started it, whatever happens to the test.
fn command(start: &Start) -> Command {
    let path = start.program.path();
    if let Some(shell) = &start.before {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{shell}; exec \"$0\" \"$@\"")).arg(path);
        return command;
    }
    if Path::new("/usr/bin/setpriv").exists() {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(path);
        return command;
    }
    Command::new(path)
}

/// A port nobody listens on, below those the system gives to outgoing connections. Each process has its own range.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 12_000 + (std::process::id() % 80) as u16 * 200;
    until("a free port", || {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 200;
        std::net::TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    })
}

/// A running server; it is killed with this value.
pub struct Server {
    program: Program,
    child: Child,
    /// The port it listens on.
    pub port: u16,
    dir: Arc<TempDir>,
    log_path: PathBuf,
}

impl Server {
    /// A Sluice server with these options.
    #[track_caller]
    pub fn sluice(options: &str) -> Server {
        Start::new(Program::Sluice, options).up()
    }

    /// A real redis-server with these options.
    #[track_caller]
    pub fn redis(options: &str) -> Server {
        Start::new(Program::Redis, options).up()
    }

    /// Its folder.
    pub fn dir(&self) -> &Arc<TempDir> {
        &self.dir
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log_path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until its log holds this text.
    #[track_caller]
    pub fn logged(&self, text: &str) {
        until(&format!("`{text}` in the log"), || self.log().contains(text).then_some(()));
    }

    /// A connection, if it takes one.
    pub fn connect(&self) -> Option<Client> {
        Client::connect(self.port).ok()
    }

    /// A connection.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.connect().expect("the server takes a connection")
    }

    /// Runs one command on a connection of its own, which must not fail.
    #[track_caller]
    pub fn say(&self, line: &str) -> Reply {
        self.client().say(line)
    }

    /// Whether it still serves.
    #[track_caller]
    pub fn alive(&self) {
        assert_eq!(self.say("PING"), Reply::Status("PONG".into()));
    }

    /// A field of INFO.
    #[track_caller]
    pub fn info(&self, section: &str, field: &str) -> Option<String> {
        self::field(&self.say(&format!("INFO {section}")).text(), field).map(str::to_owned)
    }

    /// A field of INFO that is there and a number.
    #[track_caller]
    pub fn number(&self, section: &str, field: &str) -> i64 {
        let text = self.info(section, field).unwrap_or_else(|| panic!("INFO {section} has no {field}"));
        text.parse().unwrap_or_else(|_| panic!("{field}:{text}"))
    }

    /// What DEBUG DIGEST says of the whole keyspace.
    #[track_caller]
    pub fn digest(&self) -> String {
        self.say("DEBUG DIGEST").text()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs");
        assert!(status.success());
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> ExitStatus {
        until("the server ends", || self.child.try_wait().expect("a child can be asked"))
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_for_end()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Makes it a replica of `primary`.
    #[track_caller]
    pub fn follow(&self, primary: &Server) {
        self.say(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
    }

    /// Waits until its link to its primary is up.
    #[track_caller]
    pub fn link_up(&self) {
        let up = || (self.info("replication", "master_link_status")? == "up").then_some(());
        until("the replica's link is up", up);
    }

    /// Waits until this replica has all of `primary`'s log, and compares their data.
    #[track_caller]
    pub fn same_as(&self, primary: &Server) {
        self.caught_up(primary);
        let (ours, theirs) = (self.digest(), primary.digest());
        let (our_size, their_size) = (self.say("DBSIZE"), primary.say("DBSIZE"));
        assert_eq!(ours, theirs, "data differs (keys {our_size:?}, primary {their_size:?})");
    }

    /// Waits until this replica has all of `primary`'s log.
    #[track_caller]
    pub fn caught_up(&self, primary: &Server) {
        until("the replica has all of the primary's log", || {
            let up = self.info("replication", "master_link_status")? == "up";
            // One INFO each, so that history and offset are of one moment.
            let (ours, theirs) =
                (self.say("INFO replication").text(), primary.say("INFO replication").text());
            let same = |a: &str, b: &str| field(&ours, a).is_some() && field(&ours, a) == field(&theirs, b);
            let history = same("master_replid", "master_replid");
            (up && history && same("slave_repl_offset", "master_repl_offset")).then_some(())
        });
    }

    /// Waits until INFO has this value in this field.
    #[track_caller]
    pub fn reports(&self, section: &str, field: &str, value: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let now = self.info(section, field);
            if now.as_deref() == Some(value) {
                return;
            }
            assert!(Instant::now() < deadline, "{field} is {now:?}, not {value}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Its peak memory in kilobytes.
    pub fn peak_memory_kb(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(LOG_SHOWN);
            let from = (from..log.len()).find(|&at| log.is_char_boundary(at)).unwrap_or(0);
            eprintln!("--- log of {:?} on port {}:\n{}", self.program, self.port, &log[from..]);
        }
    }
}

/// A field of INFO's text.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// Writes a file of a test.
///
/// # Panics
///
/// When it cannot.
pub fn write(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    File::create(path)
        .and_then(|mut file| file.write_all(bytes))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
