//! The start of the server: its output, its files, and what does not stop it.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::binary::{Child, Client, bare, free_port, gatebird, run, signal, within};
use crate::harness::{Database, Gate, JWT_SECRET, json};
use crate::programs;

/// Starts a server with that shell redirection of its standard output, and waits until it serves.
fn start_with_output(database: &Database, redirection: &str) -> (std::process::Child, Client) {
    let port = free_port().to_string();
    let server = gatebird(database, &[], &[("PORT", &port), ("ACCESS_LOG", "all")]);
    let mut shell = Command::new("sh");
    let script = format!("exec \"$0\" {redirection}");
    shell.arg("-c").arg(script).arg(server.get_program()).current_dir(database.dir.path()).env_clear();
    shell.envs(server.get_envs().filter_map(|(key, value)| Some((key, value?)))).env("PATH", programs::path());
    let process = shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh starts");
    let client = Client::new(&format!("http://127.0.0.1:{port}"));
    (process, client)
}

#[test]
fn serve__standard_output_fails_or_blocks() {
    let database = Database::new();
    for redirection in [">/dev/full", ">&-", "2>&- >&-", "<&- >/dev/full 2>/dev/full"] {
        let (mut process, client) = start_with_output(&database, redirection);
        within(Duration::from_secs(20), redirection, || client.send("GET", "/readyz", &[], "").is_ok());
        client.get("/readyz", "").expect(200);
        client.get("/v1/test", "").refused(401, "missing");
        signal("TERM", process.id());
        assert_eq!(process.wait().expect("it ends").code(), Some(0), "{redirection}");
    }
    // A pipe that is full before the start and is never read.
    let fill = "{ dd if=/dev/zero bs=65536 count=1 status=none; echo filled >&2; exec \"$0\"; } | sleep 60";
    let port = free_port().to_string();
    let server = gatebird(&database, &[], &[("PORT", &port)]);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(fill).arg(server.get_program()).current_dir(database.dir.path()).env_clear();
    shell.envs(server.get_envs().filter_map(|(key, value)| Some((key, value?)))).env("PATH", programs::path());
    let mut shell = shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh starts");
    let client = Client::new(&format!("http://127.0.0.1:{port}"));
    within(Duration::from_secs(20), "it serves", || client.send("GET", "/readyz", &[], "").is_ok());
    for name in ["sleep", "gatebird"] {
        kill_children(shell.id(), name);
    }
    drop(shell.wait());
}

/// Kills the children of that process that have this name.
fn kill_children(parent: u32, name: &str) {
    let script = format!(
        "for pid in $(cat /proc/{parent}/task/{parent}/children); do case $(cat /proc/$pid/comm) in {name}*) kill -9 $pid;; esac; done"
    );
    drop(Command::new("sh").args(["-c", &script]).status());
}

#[test]
fn serve__sighup_does_not_end_the_server() {
    let database = Database::new();
    let mut child = Child::start(&database, &[]);
    for _ in 0..3 {
        signal("HUP", child.pid());
        std::thread::sleep(Duration::from_millis(100));
        assert!(child.is_running());
        child.client.get("/readyz", "").expect(200);
    }
    signal("TERM", child.pid());
    assert_eq!(child.wait(Duration::from_secs(10)).code, Some(0));
}

#[test]
fn greeting__names_a_new_database_by_its_absolute_path() {
    let database = Database::sqlite();
    let dir = database.dir.path().canonicalize().expect("a folder");
    let relative = [("DATABASE_URL", "sqlite://data/gatebird.db")];
    let path = dir.join("data/gatebird.db").display().to_string();
    let child = Child::start(&database, &relative);
    assert!(child.stdout().contains(&path) && child.stdout().contains("made a new database"), "{}", child.stdout());
    drop(child);
    let child = Child::start(&database, &relative);
    assert!(child.stdout().contains(&path) && !child.stdout().contains("made a new"), "{}", child.stdout());
}

#[test]
fn database_file__empty_beside_a_stored_secret_is_refused() {
    let database = Database::sqlite();
    let own = [("JWT_SECRET", "")];
    let child = Child::start(&database, &own);
    let (_, _, token) = child.client.tenant("alice");
    signal("TERM", child.pid());
    assert_eq!(child.wait(Duration::from_secs(10)).code, Some(0));
    let file = database.dir.path().join("data/gatebird.db");
    let whole = fs::read(&file).expect("a file");
    // SQLite treats a file of one byte as empty.
    for content in ["", "\n"] {
        fs::write(&file, content).expect("a writable file");
        for args in [&[][..], &["migrate"], &["user", "list"], &["user", "add", "bob"]] {
            let outcome = run(&mut gatebird(&database, args, &own), crate::harness::PASSWORD);
            assert_eq!(outcome.code, Some(65), "{args:?} {outcome:?}");
            assert!(outcome.stderr.contains("gatebird.db") && outcome.stderr.contains("jwt_secret"), "{outcome:?}");
            assert_eq!(fs::read_to_string(&file).expect("a file"), content, "the file is unchanged");
        }
    }
    fs::write(&file, whole).expect("a writable file");
    Child::start(&database, &own).client.get("/v1/me", &token).refused(403, "kind");

    // Without a sign of earlier use, an empty file is a new database.
    let other = Database::sqlite();
    fs::create_dir(other.dir.path().join("data")).expect("a folder");
    fs::write(other.dir.path().join("data/gatebird.db"), "").expect("a file");
    assert!(Child::start(&other, &own).stdout().contains("made a new database"));
}

#[test]
fn port_in_use__no_database_is_created() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    for (key, value) in [("PORT", address.port().to_string()), ("METRICS_ADDR", address.to_string())] {
        let database = Database::sqlite();
        let outcome = run(&mut gatebird(&database, &[], &[(key, &value)]), "");
        assert_eq!(outcome.code, Some(73), "{outcome:?}");
        assert!(outcome.stderr.contains(key), "{outcome:?}");
        assert!(!database.dir.path().join("data").exists(), "no file is created");
    }
}

#[test]
fn env_file__unknown_key_is_a_warning_at_the_start() {
    let database = Database::sqlite();
    let file = format!("PORT=0\nMETRICS_ADDR=off\nJWT_SECRET={JWT_SECRET}\nSIGN_UP=closed\n");
    fs::write(database.dir.path().join(".env"), file).expect("a file");
    let child = Child::spawn(&mut bare(database.dir.path(), &["serve"]), "").wait_until_serving();
    within(Duration::from_secs(5), "a warning", || child.stderr().contains("SIGN_UP"));
    let warning = child.stderr();
    assert!(warning.contains("WARN") && warning.contains("SIGNUP?") && warning.contains("line 4"), "{warning}");
    // Commands warn, too: they could work on another database than intended.
    let outcome = run(&mut bare(database.dir.path(), &["migrate"]), "");
    assert!(outcome.stderr.contains("SIGN_UP"), "{outcome:?}");
}

/// How many of eight requests with that `X-Forwarded-For` are not answered 429, at five an hour for each network. `{}`
/// stands for the number of the request.
fn served(entry: &str) -> usize {
    let gate = Gate::with(&[("LIMIT_ADDRESS", "5/h"), ("TRUSTED_PROXIES", "127.0.0.1")]);
    let status = |number: usize| {
        let entry = entry.replace("{}", &number.to_string());
        gate.post("/token").header("X-Forwarded-For", entry).json(&json!({})).send().status
    };
    (0..8).filter(|number| status(*number) != 429).count()
}

#[test]
fn forwarded_address__port_and_brackets() {
    for entry in [
        "203.0.113.{}",
        "203.0.113.{}:51234",
        "2001:db8:{}::1",
        "[2001:db8:{}::1]",
        "[2001:db8:{}::1]:443",
        "\"[2001:db8:{}::1]:443\"",
        "203.0.113.{}:1, 127.0.0.1:2",
    ] {
        assert_eq!(served(entry), 8, "{entry}: each is a network of its own");
    }
    assert_eq!(served("203.0.113.9:5000{}"), 5, "the port makes no other network");
    for unreadable in ["unknown", "_hidden", "203.0.113.{}:", "203.0.113.{}:x", "[2001:db8:{}::1", "300.0.0.{}"] {
        assert_eq!(served(unreadable), 5, "{unreadable}: the network of the proxy");
    }
}

#[test]
fn forwarded_address__unreadable_one_is_logged_once() {
    let database = Database::new();
    let child = Child::start(&database, &[("TRUSTED_PROXIES", "127.0.0.1")]);
    for _ in 0..3 {
        drop(child.client.send("GET", "/v1/test", &[("X-Forwarded-For", "c4nary")], ""));
    }
    within(Duration::from_secs(5), "a warning", || child.stderr().contains("X-Forwarded-For"));
    drop(child.client.send("GET", "/v1/test", &[("X-Forwarded-For", "c4nary")], ""));
    signal("TERM", child.pid());
    let outcome = child.wait(Duration::from_secs(10));
    assert_eq!(outcome.stderr.matches("X-Forwarded-For").count(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains("127.0.0.1") && !outcome.stderr.contains("c4nary"), "{outcome:?}");
}
