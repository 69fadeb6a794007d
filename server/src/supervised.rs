//! What the server tells whoever supervises it: its process id in `pidfile`, and, under systemd, how far it is.
//!
//! systemd reads datagrams at the socket that `NOTIFY_SOCKET` names; the form is that of sd_notify(3). Nothing here may keep a
//! server from running: what cannot be told is logged.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;

use crate::config::{Config, Supervised};

/// Where Redis puts the process id of a daemon that was given no `pidfile`.
const DEFAULT_PIDFILE: &str = "/var/run/redis.pid";

/// The socket of the supervisor, once one was found.
static SUPERVISOR: OnceLock<Vec<u8>> = OnceLock::new();

/// Finds the supervisor that `supervised` speaks of. True: there is one, and the process stays in the foreground.
pub(crate) fn find(mode: Supervised) -> bool {
    let socket =
        || std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()).map(OsStringExt::into_vec);
    match (mode, socket()) {
        (Supervised::No, _) | (Supervised::Auto, None) => false,
        (Supervised::Systemd | Supervised::Auto, Some(name)) => {
            crate::log!(
                Notice,
                "Supervised by systemd: it is told when data is loaded; let TimeoutStartSec cover that"
            );
            let _ = SUPERVISOR.set(name);
            true
        }
        (Supervised::Systemd, None) => {
            crate::log!(Warning, "'supervised systemd' without a supervisor: NOTIFY_SOCKET is not set");
            false
        }
        (Supervised::Upstart, _) => {
            crate::log!(
                Warning,
                "There is no supervision by upstart; set 'supervised systemd' or 'supervised no'"
            );
            false
        }
    }
}

/// The server serves; `replica` says that it follows a primary.
pub(crate) fn ready(replica: bool) {
    let status = if replica { "Serving what there is; the primary's data comes next" } else { "Serving" };
    tell(&format!("STATUS={status}\nREADY=1\n"));
}

/// Data is being loaded.
pub(crate) fn loading() {
    tell("STATUS=Loading the dataset\n");
}

/// The server ends.
pub(crate) fn stopping() {
    tell("STATUS=Ending\nSTOPPING=1\n");
}

fn tell(state: &str) {
    let Some(name) = SUPERVISOR.get() else { return };
    if let Err(e) = send(name, state) {
        let name = String::from_utf8_lossy(name);
        crate::log!(Warning, "Can't tell systemd at '{name}': {}", crate::config::os_reason(&e));
    }
}

/// A name that begins with `@` is one without a file.
fn send(name: &[u8], state: &str) -> std::io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        Some(rest) => SocketAddr::from_abstract_name(rest)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    // A supervisor that does not read must not stop the server.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Writes the process id, where a file is asked for or the process is a daemon. It is removed when the server ends in order.
pub(crate) fn write_pidfile(config: &mut Config, daemon: bool) {
    if daemon && config.pidfile.is_empty() {
        config.pidfile = DEFAULT_PIDFILE.to_owned();
    }
    if config.pidfile.is_empty() {
        return;
    }
    if let Err(e) = std::fs::write(&config.pidfile, format!("{}\n", std::process::id())) {
        crate::log!(
            Warning,
            "Can't write the pidfile '{}': {}",
            config.pidfile,
            crate::config::os_reason(&e)
        );
    }
}
