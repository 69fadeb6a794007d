//! Configuration: files, includes, flags in every form, errors, CONFIG and what it changes.

use sluice_tests::server::write;
use sluice_tests::{Program, Reply, Server, Start};
use std::process::Command;

fn config(server: &Server, name: &str) -> String {
    server.say(&format!("CONFIG GET {name}")).items()[1].text()
}

#[test]
fn a_file_with_an_include_is_read_and_flags_win() {
    let start = Start::new(Program::Sluice, "");
    let conf = start.folder().join("sluice.conf");
    let more = start.folder().join("more.conf");
    write(&more, b"# a comment\n\nmaxclients 77\nrepl-backlog-size 2mb\n");
    write(&conf, format!("timeout 9\ninclude {}\nhz 50\ndir \"/\"\n", more.display()).as_bytes());
    let port = sluice_tests::server::free_port();
    let program = Program::Sluice.path();
    let mut child = Command::new(program)
        .arg(&conf)
        .args(["--port", &port.to_string(), "--hz", "20", "--save", "900", "1", "300", "10", "--dir"])
        .arg(start.folder())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut c = sluice_tests::until("it answers", || sluice_tests::Client::connect(port).ok());
    let mut get = |name: &str| c.say(&format!("CONFIG GET {name}")).items()[1].text();
    let got: Vec<String> = ["timeout", "maxclients", "repl-backlog-size", "hz", "save"].map(&mut get).into();
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(got, ["9", "77", "2097152", "20", "900 1 300 10"]);
}

#[test]
fn flags_are_taken_in_every_form() {
    let primary = Server::sluice("");
    for form in [
        format!("--slaveof 127.0.0.1 {}", primary.port),
        format!("--replicaof 127.0.0.1 {} --maxmemory 100mb", primary.port),
    ] {
        let replica = Server::sluice(&form);
        assert_eq!(replica.info("replication", "role").as_deref(), Some("slave"), "{form}");
        assert_eq!(replica.info("replication", "master_port"), Some(primary.port.to_string()), "{form}");
    }
    assert_eq!(config(&Server::sluice("--save 60 1 --save 30 2"), "save"), "60 1 30 2");
    assert_eq!(config(&Server::sluice("--save"), "save"), "");
}

#[track_caller]
fn refused(options: &str, parts: &[&str]) {
    let (status, log) = Start::new(Program::Sluice, options).refused();
    assert_eq!(status.code(), Some(1), "{options}: {log}");
    for part in parts {
        assert!(log.contains(part), "{options}: no `{part}` in\n{log}");
    }
}

#[test]
fn errors_name_the_line_and_the_reason() {
    refused(
        "--no-such-thing 1",
        &["FATAL CONFIG", "no-such-thing", "Bad directive or wrong number of arguments"],
    );
    refused("--maxclients 0", &["maxclients", "argument must be between 1 and"]);
    refused("--appendonly perhaps", &["appendonly", "argument must be 'yes' or 'no'"]);
    refused("--repl-transport pigeon", &["repl-transport", "argument(s) must be one of the following"]);
    refused("--shards 33", &["shards"]);
    refused("--dir /no/such/folder", &["/no/such/folder"]);
    let start = Start::new(Program::Sluice, "");
    let conf = start.folder().join("bad.conf");
    write(&conf, b"timeout 1\n\nnonsense here\n");
    let out = Command::new(Program::Sluice.path()).arg(&conf).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(!out.status.success());
    for part in ["at line 3", ">>> 'nonsense here'", "bad.conf"] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
}

#[test]
fn what_is_not_supported_yet_is_a_warning() {
    let server = Server::sluice("--maxmemory-policy allkeys-lru --cluster-enabled no");
    let log = server.log();
    assert!(log.lines().any(|line| line.contains('#') && line.contains("maxmemory-policy")), "{log}");
    assert!(!log.contains("cluster-enabled"), "{log}");
}

#[test]
fn a_port_that_is_taken_is_told() {
    let server = Server::sluice("");
    let (status, log) = Start::new(Program::Sluice, "").port(server.port).refused();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("Address already in use"), "{log}");
}

#[test]
fn config_set_is_all_or_nothing() {
    let server = Server::sluice("");
    let mut c = server.client();
    assert_eq!(c.ask("CONFIG SET timeout 10 maxclients 500").text(), "OK");
    assert_eq!(config(&server, "timeout"), "10");
    let error = c.ask("CONFIG SET timeout 20 maxclients none").text();
    assert!(
        error.starts_with("ERR CONFIG SET failed (possibly related to argument 'maxclients') - "),
        "{error}"
    );
    assert_eq!(config(&server, "timeout"), "10");
    assert!(
        c.ask("CONFIG SET nothing 1")
            .text()
            .starts_with("ERR Unknown option or number of arguments for CONFIG SET")
    );
    assert!(c.ask("CONFIG SET databases 3").text().contains("can't set immutable config"));
    let many = c.say("CONFIG GET repl-diskless-sync* timeout");
    assert_eq!(many.items().len(), 8);
    assert_eq!(c.ask("CONFIG GET nothing*"), Reply::Array(vec![]));
}

#[test]
fn config_rewrite_keeps_what_was_set() {
    let start = Start::new(Program::Sluice, "");
    let conf = start.folder().join("sluice.conf");
    let port = sluice_tests::server::free_port();
    write(&conf, format!("# mine\nport {port}\ntimeout 5\nsave \"\"\n").as_bytes());
    let mut child =
        Command::new(Program::Sluice.path()).arg(&conf).stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut c = sluice_tests::until("it answers", || sluice_tests::Client::connect(port).ok());
    let replies = ["CONFIG SET timeout 7 maxclients 123", "CONFIG REWRITE"].map(|line| c.ask(line));
    let text = std::fs::read_to_string(&conf).unwrap();
    let _ = child.kill();
    let _ = child.wait();
    assert!(replies.iter().all(|r| r.text() == "OK"), "{replies:?}");
    for line in ["# mine", "timeout 7", "maxclients 123"] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    }
}

#[test]
fn limits_of_encodings_follow_config_set() {
    let server = Server::sluice("");
    let mut c = server.client();
    let mut encoding = |line: &str| {
        c.say("DEL k");
        c.say(line);
        c.say("OBJECT ENCODING k").text()
    };
    assert_eq!(encoding("HSET k a 1 b 2 c 3"), "listpack");
    server.say("CONFIG SET hash-max-ziplist-entries 2");
    assert_eq!(config(&server, "hash-max-listpack-entries"), "2");
    assert_eq!(encoding("HSET k a 1 b 2 c 3"), "hashtable");
    assert_eq!(encoding("SADD k 1 2 3"), "intset");
    server.say("CONFIG SET set-max-intset-entries 2");
    assert_eq!(encoding("SADD k 1 2 3"), "hashtable");
    assert_eq!(encoding("ZADD k 1 a 2 b"), "listpack");
    server.say("CONFIG SET zset-max-listpack-value 1");
    assert_eq!(encoding("ZADD k 1 aa"), "skiplist");
}

#[test]
fn info_has_the_sections_of_redis_and_resetstat_clears_counters() {
    let server = Server::sluice("");
    let mut c = server.client();
    let info = c.say("INFO").text();
    for section in [
        "Server",
        "Clients",
        "Memory",
        "Persistence",
        "Stats",
        "Replication",
        "CPU",
        "Errorstats",
        "Cluster",
        "Keyspace",
    ] {
        assert!(info.contains(&format!("# {section}\r\n")), "no section {section}");
    }
    for field in [
        "redis_version:7.0",
        "tcp_port:",
        "connected_clients:",
        "used_memory:",
        "role:master",
        "master_replid:",
        "rdb_changes_since_last_save:0",
    ] {
        assert!(info.contains(field), "no {field} in\n{info}");
    }
    c.ask("NOSUCH");
    c.say("SET a 1");
    assert_eq!(server.info("keyspace", "db0").as_deref(), Some("keys=1,expires=0,avg_ttl=0"));
    assert_eq!(server.info("errorstats", "errorstat_ERR").as_deref(), Some("count=1"));
    assert!(server.info("commandstats", "cmdstat_set").is_some());
    c.say("CONFIG RESETSTAT");
    assert_eq!(server.info("errorstats", "errorstat_ERR"), None);
    assert_eq!(server.info("commandstats", "cmdstat_set"), None);
}

#[test]
fn the_command_table_describes_itself() {
    let server = Server::sluice("");
    let mut c = server.client();
    let count = c.say("COMMAND COUNT").int();
    assert!(c.say("COMMAND LIST").items().len() as i64 >= count, "subcommands are listed too");
    assert_eq!(c.say("COMMAND").items().len() as i64, count);
    let get = c.say("COMMAND INFO get nosuch");
    assert_eq!(get.items()[0].items()[..2], ["get".into(), Reply::Int(2)]);
    assert_eq!(get.items()[1], Reply::Nil);
    assert_eq!(c.say("COMMAND GETKEYS MSET a 1 b 2"), Reply::Array(vec!["a".into(), "b".into()]));
    assert!(!c.say("COMMAND DOCS set").items().is_empty());
}

#[test]
fn what_protects_data_and_is_not_supported_stops_the_start() {
    refused(
        "--tls-port 6380 --tls-cert-file /c.pem",
        &["FATAL CONFIG", ">>> 'tls-port", "clear text", "TLS proxy"],
    );
    refused("--cluster-enabled yes", &[">>> 'cluster-enabled", "of the command line", "alone"]);
    refused("--aclfile /etc/users.acl", &["aclfile", "everybody could do everything", "requirepass"]);
    let start = Start::new(Program::Sluice, "");
    let conf = start.folder().join("users.conf");
    for (line, part) in [
        ("user default on nopass ~app:* &* +@all", "the rule '~app:*' would be lost"),
        ("user alice on nopass ~* &* +@all", "'alice' could not sign on"),
        ("loadmodule /m.so", "the module's commands"),
        ("tls-replication yes", "clear text"),
    ] {
        write(&conf, format!("hz 10\n\n{line}\n").as_bytes());
        let out = Command::new(Program::Sluice.path()).arg(&conf).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{line}");
        for part in ["at line 3", "users.conf", line, part] {
            assert!(said.contains(part), "no `{part}` in\n{said}");
        }
    }
    let server = Server::sluice("--tls-port 0 --cluster-enabled no --aclfile ''");
    assert!(server.client().ask("CONFIG SET tls-port 6380").is_error());
    assert_eq!(server.say("CONFIG SET tls-port 0").text(), "OK");
}

/// redis-server writes a `user` line into every file it rewrites; the server that takes it over asks for the same password.
#[test]
fn a_file_that_redis_rewrote_starts_with_its_password() {
    if !sluice_tests::peers_here(&["redis-server"]) {
        return;
    }
    let start = Start::new(Program::Sluice, "");
    let conf = start.folder().join("both.conf");
    for password in ["", "foo \"bar"] {
        let port = sluice_tests::server::free_port();
        let text = format!("port {port}\nsave \"\"\ndir {}\n", start.folder().display());
        write(&conf, text.as_bytes());
        let run = |program: Program, talk: &dyn Fn(&mut sluice_tests::Client)| {
            let mut child =
                Command::new(program.path()).arg(&conf).stdout(std::process::Stdio::null()).spawn().unwrap();
            let mut c = sluice_tests::until("it answers", || sluice_tests::Client::connect(port).ok());
            talk(&mut c);
            let _ = child.kill();
            let _ = child.wait();
        };
        run(Program::Redis, &|c| {
            assert_eq!(c.run(&["CONFIG", "SET", "requirepass", password]).text(), "OK");
            assert_eq!(c.run(&["CONFIG", "REWRITE"]).text(), "OK");
        });
        assert!(std::fs::read_to_string(&conf).unwrap().contains("\nuser default on "));
        for _ in 0..2 {
            run(Program::Sluice, &|c| {
                if !password.is_empty() {
                    assert!(c.ask("GET k").text().starts_with("NOAUTH"));
                    assert_eq!(c.run(&["AUTH", password]).text(), "OK");
                }
                assert_eq!(c.ask("GET k"), Reply::Nil);
                assert_eq!(c.run(&["CONFIG", "REWRITE"]).text(), "OK");
            });
        }
    }
}

#[test]
fn the_slow_log_shows_no_secret() {
    let server = Server::sluice("--slowlog-log-slower-than 0 --slowlog-max-len 100");
    let mut c = server.client();
    for line in [
        "CONFIG SET requirepass s3cret",
        "AUTH s3cret",
        "AUTH default s3cret",
        "HELLO 3 AUTH default s3cret",
        "CONFIG SET timeout 0 masterauth s3cret masteruser s3cret",
        "ACL SETUSER s3cret on >s3cret",
        "MIGRATE 127.0.0.1 1 nokey 0 100 AUTH s3cret",
        "MIGRATE 127.0.0.1 1 nokey 0 100 AUTH2 s3cret s3cret",
        "CONFIG SET requirepass ''",
    ] {
        c.ask(line);
    }
    let slow: String = c
        .ask("SLOWLOG GET 100")
        .items()
        .iter()
        .flat_map(|entry| entry.items()[3].items().iter().map(|arg| arg.text() + " ").collect::<Vec<_>>())
        .collect();
    assert!(slow.contains("(redacted)") && !slow.contains("s3cret"), "{slow}");
    assert!(!server.log().contains("s3cret"));
    assert!(!c.ask("INFO everything").text().contains("s3cret"));
    assert!(!c.ask("CLIENT LIST").text().contains("s3cret"));
}

#[test]
fn renamed_commands_have_their_new_name_alone_and_files_and_replicas_know_both() {
    const LONG: &str = "b840fc02d524045429941cc15f59e41cb7be6c52-and-more";
    let included = tempfile::NamedTempFile::new().expect("a scratch file");
    std::fs::write(included.path(), "rename-command debug \"\"\nrename-command Set put\n").expect("written");
    let options = format!(
        "--include {} --rename-command FLUSHALL '' --rename-command CONFIG {LONG} --rename-command DEL '' --appendonly yes",
        included.path().display()
    );
    let start = Start::new(Program::Sluice, &options);
    let server = start.clone().up();
    let mut c = server.client();
    for gone in ["FLUSHALL", "flushall", "DEBUG SLEEP 0", "CONFIG GET port", "set k v", "DEL k"] {
        assert!(c.ask(gone).text().starts_with("ERR unknown command"), "{gone}");
    }
    assert_eq!(c.ask("MULTI").text(), "OK");
    assert!(c.ask("FLUSHALL").text().starts_with("ERR unknown command"));
    assert!(c.ask("EXEC").text().starts_with("EXECABORT"));
    assert_eq!(c.ask(&format!("{} GET port", LONG.to_uppercase())).items()[0].text(), "port");
    let list = c.ask("COMMAND LIST");
    let names: Vec<String> = list.items().iter().map(Reply::text).collect();
    assert!(names.iter().any(|n| n == "set") && names.iter().any(|n| n == "config|get"));
    assert!(!names.iter().any(|n| ["flushall", "debug", "del"].contains(&n.as_str())));
    assert_eq!(c.ask("COMMAND INFO put flushall").items()[0].items()[0].text(), "set");
    assert_eq!(c.ask("COMMAND INFO put flushall").items()[1], Reply::Nil);

    // What clients wrote stands in the log by its new name, what the server found by its own (the DEL of an expired key): a
    // replica of the same configuration, and the file, take both.
    let replica = Server::sluice("--rename-command set put --rename-command del ''");
    replica.follow(&server);
    replica.link_up();
    c.ask("PUT short 1 PX 1");
    while c.ask("EXISTS short").int() == 1 {}
    // The reply to a write is the word that what stands before it in the log is in the file, too.
    c.ask("PUT k v");
    replica.caught_up(&server);
    assert_eq!((replica.say("GET k").text(), replica.say("DBSIZE").int()), ("v".into(), 1));
    server.kill();
    let server = start.up();
    assert_eq!(server.say("GET k").text(), "v");
    assert_eq!(server.say("DBSIZE").int(), 1);
}

#[test]
fn a_rename_that_cannot_be_followed_stops_the_start() {
    for (options, reason) in [
        ("--rename-command NOSUCH x", "No such command in rename-command"),
        ("--rename-command GET SET", "Target command name already exists"),
        ("--rename-command GET '' --rename-command GET x", "No such command in rename-command"),
    ] {
        let (_, log) = Start::new(Program::Sluice, options).refused();
        assert!(log.contains(reason), "{options}: {log}");
    }
}
