//! What whoever starts the server sees: the pidfile, systemd's socket, what is listened on, and the words of `--help` and the like.

use sluice_tests::{LIMIT, Program, Server, Start, until};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Output};

#[test]
fn a_daemon_writes_its_pidfile_and_removes_it() {
    for daemon in ["yes", "no"] {
        let start =
            Start::new(Program::Sluice, &format!("--daemonize {daemon} --pidfile own.pid --logfile own.log"));
        let mut server = start.spawn();
        let file = server.file("own.pid");
        let pid: u32 =
            until("the pidfile", || std::fs::read_to_string(&file).ok()?.strip_suffix('\n')?.parse().ok());
        assert_eq!(pid == server.pid(), daemon == "no");
        until("it serves", || server.connect()?.try_run(&["PING"]).ok());
        assert_eq!(server.info("server", "process_id"), Some(pid.to_string()));
        if daemon == "yes" {
            assert!(server.wait_for_end().success(), "the parent has left");
        }
        let _ = server.client().try_run(&["SHUTDOWN", "NOSAVE"]);
        until("the pidfile is gone", || (!file.exists()).then_some(()));
    }
}

#[test]
fn systemd_is_told_when_the_server_is_ready_and_when_it_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify").display().to_string();
    let unnamed = format!("sluice-test-{}", std::process::id());
    for (name, mode) in [(path.clone(), "systemd"), (format!("@{unnamed}"), "auto")] {
        let address = match name.strip_prefix('@') {
            Some(rest) => SocketAddr::from_abstract_name(rest),
            None => SocketAddr::from_pathname(&name),
        };
        let socket = UnixDatagram::bind_addr(&address.expect("an address")).expect("a socket");
        socket.set_read_timeout(Some(LIMIT)).expect("a limit");
        let told = |what: &str| {
            let mut buffer = [0; 4096];
            loop {
                let len = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{what} from {mode}: {e}"));
                let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                assert!(text.lines().all(|line| line.contains('=')), "{text}");
                if text.lines().any(|line| line == what) {
                    return;
                }
            }
        };
        // Who is supervised does not leave for the background.
        let server = Start::new(Program::Sluice, &format!("--supervised {mode} --daemonize yes"))
            .after(&format!("export NOTIFY_SOCKET='{name}'"))
            .up();
        told("READY=1");
        assert_eq!(server.info("server", "process_id"), Some(server.pid().to_string()));
        server.terminate();
        told("STOPPING=1");
    }
    let alone = Start::new(Program::Sluice, "--supervised systemd").after("unset NOTIFY_SOCKET").up();
    alone.logged("NOTIFY_SOCKET is not set");
}

#[test]
fn without_a_port_the_unix_socket_is_enough_and_nothing_at_all_is_refused() {
    let server = Start::new(Program::Sluice, "--port 0 --unixsocket own.sock").spawn();
    server.logged("Listening on own.sock (Unix socket)");
    let stream =
        until("the socket", || std::os::unix::net::UnixStream::connect(server.file("own.sock")).ok());
    drop(stream);
    assert!(server.connect().is_none() && !server.log().contains("(TCP)"));
    let (status, log) = Start::new(Program::Sluice, "--port 0").refused();
    assert_eq!(status.code(), Some(1));
    for text in ["Configured to not listen anywhere, exiting.", "'unixsocket'"] {
        assert!(log.contains(text), "{log}");
    }
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

#[test]
fn help_and_version_name_both_versions_and_a_sentinel_is_refused_in_words() {
    let run = |args: &[&str]| Command::new(Program::Sluice.path()).args(args).output().expect("it runs");
    for flag in ["--version", "--help", "-v", "-h"] {
        let out = run(&[flag]);
        assert!(out.status.success(), "{flag}");
        for text in [concat!("Sluice server v=", env!("CARGO_PKG_VERSION")), "redis=7.0.15"] {
            assert!(said(&out).contains(text), "{flag}: {}", said(&out));
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("redis-sentinel");
    std::os::unix::fs::symlink(Program::Sluice.path(), &link).expect("a link");
    let called = Command::new(&link).arg("sentinel.conf").output().expect("it runs");
    for out in [called, run(&["sentinel.conf", "--sentinel"])] {
        assert!(
            !out.status.success() && said(&out).contains("Sluice has no sentinel mode"),
            "{}",
            said(&out)
        );
    }
    let server = Server::sluice("");
    for text in [concat!("Sluice version=", env!("CARGO_PKG_VERSION")), "Redis version=7.0.15"] {
        assert!(server.log().contains(text), "{}", server.log());
    }
}
