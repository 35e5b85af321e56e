//! Runs the real binary in a process of its own.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Database, Domain, JWT_SECRET, PASSWORD, Reply, User, Value, json};

/// Default settings of a started binary, like those of the harness. An empty value unsets a setting.
const SETTINGS: &[(&str, &str)] = &[
    ("PORT", "0"),
    ("METRICS_ADDR", "off"),
    ("JWT_SECRET", JWT_SECRET),
    ("BCRYPT_COST", "4"),
    ("LIMIT_FREE", "off"),
    ("LIMIT_PREMIUM", "off"),
    ("LIMIT_FAILURES", "off"),
    ("LIMIT_SIGNIN", "off"),
    ("LIMIT_SIGNUP", "off"),
    ("LIMIT_PASSWORDS", "off"),
    ("LIMIT_CHANGES", "off"),
    ("LIMIT_LOG", "off"),
    ("DOMAINS_PER_USER", "off"),
    ("POSTS_PER_USER", "off"),
    ("LIMIT_CONNECTIONS", "off"),
    ("WORKERS", "2"),
];

/// The time within which a change must reach every node and every running server.
pub const PROMISED: Duration = Duration::from_secs(2);

/// `gatebird` with that database, in that database's folder, with those settings and nothing of this process's
/// environment.
pub fn gatebird(database: &Database, args: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = bare(database.dir.path(), args);
    command.env("DATABASE_URL", &database.url).envs(SETTINGS.iter().copied()).envs(settings.iter().copied());
    command
}

/// `gatebird` in that folder without any setting.
pub fn bare(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatebird"));
    command.env_clear().current_dir(dir).args(args);
    command
}

/// The end of a process.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Outcome {
    /// The standard output of a process that must have succeeded.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// The standard output of a `--json` command that must have succeeded.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.good();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// Runs the command to its end.
pub fn run(command: &mut Command, stdin: &str) -> Outcome {
    Child::spawn(command, stdin).wait(Duration::from_secs(20))
}

/// Sends that signal to a process of this test.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("sh");
    assert!(sent.success(), "kill -{name} {pid}");
}

/// Polls until `done`, and returns how long that took.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    started.elapsed()
}

/// A port that was free a moment ago, for programs that cannot report a port of their own choice.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// The output of a process in one pipe so far.
struct Captured {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<Box<dyn Read + Send>>>,
}

impl Captured {
    /// Reads to the end, or until the text `until` occurs: the pipe then stays open and unread.
    fn of(mut pipe: impl Read + Send + 'static, until: Option<&'static str>) -> Captured {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend_from_slice(&chunk[..read]);
                if until.is_some_and(|until| String::from_utf8_lossy(&text).contains(until)) {
                    break;
                }
            }
            Box::new(pipe) as Box<dyn Read + Send>
        });
        Captured { text, reader: Some(reader) }
    }

    fn text_so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// A running binary, killed on drop.
pub struct Child {
    process: std::process::Child,
    started: Instant,
    out: Captured,
    err: Captured,
    pub client: Client,
}

impl Child {
    /// Starts any command with that standard input.
    pub fn spawn(command: &mut Command, stdin: &str) -> Child {
        Child::spawn_read(command, stdin, [None, None])
    }

    /// Starts `gatebird serve` and waits for its greeting.
    pub fn start(database: &Database, settings: &[(&str, &str)]) -> Child {
        Child::spawn(&mut gatebird(database, &[], settings), "").wait_until_serving()
    }

    /// Like [`Child::start`], but output after the greeting stays in the pipes.
    pub fn start_unread(database: &Database, settings: &[(&str, &str)]) -> Child {
        let until = [Some("listens on"), Some("")];
        Child::spawn_read(&mut gatebird(database, &[], settings), "", until).wait_until_serving()
    }

    fn spawn_read(command: &mut Command, stdin: &str, until: [Option<&'static str>; 2]) -> Child {
        let started = Instant::now();
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the command starts");
        let (out, err) = (process.stdout.take().expect("a pipe"), process.stderr.take().expect("a pipe"));
        // A process that reads nothing may have ended already.
        drop(process.stdin.take().expect("a pipe").write_all(stdin.as_bytes()));
        let [out_until, err_until] = until;
        let (out, err) = (Captured::of(out, out_until), Captured::of(err, err_until));
        Child { process, started, out, err, client: Client::new("") }
    }

    /// Waits until the server serves.
    pub fn wait_until_serving(mut self) -> Child {
        const BEFORE: &str = "listens on ";
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let text = self.out.text_so_far();
            let greeting = text.split_once(BEFORE).and_then(|(_, rest)| rest.split_once(' '));
            if let Some((url, _)) = greeting {
                self.client = Client::new(url);
                return self;
            }
            let ended = self.process.try_wait().expect("a child of this process");
            assert!(ended.is_none(), "it ended: {}", self.stderr());
            assert!(Instant::now() < deadline, "no greeting: {text} {}", self.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn stdout(&self) -> String {
        self.out.text_so_far()
    }

    pub fn stderr(&self) -> String {
        self.err.text_so_far()
    }

    /// Closes this end of its standard output, if it was left unread.
    pub fn close_stdout(&mut self) {
        drop(self.out.reader.take().map(JoinHandle::join));
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("a child of this process").is_none()
    }

    /// The resident memory in KiB.
    pub fn resident_kib(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a child of this process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Outcome {
        within(limit, "the process ends", || !self.is_running());
        let took = self.started.elapsed();
        let code = self.process.wait().expect("it has ended").code();
        for captured in [&mut self.out, &mut self.err] {
            drop(captured.reader.take().map(JoinHandle::join));
        }
        Outcome { code, stdout: self.stdout(), stderr: self.stderr(), took }
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("a child of this process");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A client of a server that may end at any time.
#[derive(Clone)]
pub struct Client {
    pub url: String,
    agent: ureq::Agent,
}

impl Client {
    pub fn new(url: &str) -> Client {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(20)))
            .build();
        Client { url: url.into(), agent: agent.into() }
    }

    /// Sends these headers, and this body unless it is empty.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Reply, Box<ureq::Error>> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.as_bytes().to_vec()).expect("a well-formed request");
        let mut response = self.agent.run(request).map_err(Box::new)?;
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()));
        let (status, headers) = (response.status().as_u16(), headers.collect());
        Ok(Reply { status, headers, body: response.body_mut().read_to_vec().map_err(Box::new)? })
    }

    /// Sends JSON (none for `null`) with that token (none if empty).
    pub fn try_call(&self, method: &str, path: &str, token: &str, body: &Value) -> Result<Reply, Box<ureq::Error>> {
        let bearer = format!("Bearer {token}");
        let mut headers = Vec::new();
        if !token.is_empty() {
            headers.push(("Authorization", bearer.as_str()));
        }
        if body.is_null() {
            return self.send(method, path, &headers, "");
        }
        headers.push(("Content-Type", "application/json"));
        self.send(method, path, &headers, &body.to_string())
    }

    /// [`Client::try_call`]; a broken connection fails the test.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> Reply {
        self.try_call(method, path, token, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    #[track_caller]
    pub fn get(&self, path: &str, token: &str) -> Reply {
        self.call("GET", path, token, &Value::Null)
    }

    #[track_caller]
    pub fn post(&self, path: &str, token: &str, body: Value) -> Reply {
        self.call("POST", path, token, &body)
    }

    #[track_caller]
    pub fn sign_in(&self, username: &str, password: &str) -> Reply {
        self.post("/v1/signin", "", json!({"username": username, "password": password}))
    }

    /// Exchanges a client secret for a token.
    #[track_caller]
    pub fn exchange(&self, secret: &str) -> Reply {
        self.post("/token", "", json!({"clientSecret": secret}))
    }

    /// A user with a domain, and an access token of it.
    #[track_caller]
    pub fn tenant(&self, username: &str) -> (User, Domain, String) {
        let body = json!({"username": username, "password": PASSWORD});
        let answer = self.post("/v1/signup", "", body).expect(201);
        let user = User { token: text(&answer["token"]), id: answer["payload"]["id"].as_i64().expect("a number") };
        let body = json!({"host": format!("{username}.example.com"), "type": "free"});
        let answer = self.post("/v1/domains", &user.token, body).expect(201);
        let payload = &answer["payload"];
        let domain = Domain { id: text(&payload["id"]), secret: text(&payload["clientSecret"]) };
        let token = text(&self.exchange(&domain.secret).expect(200)["token"]);
        (user, domain, token)
    }
}

/// The text of a JSON string.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}")).to_owned()
}
