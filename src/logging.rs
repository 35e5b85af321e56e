//! Logs: one line of JSON per event. A thread writes the lines, so that a blocked output never blocks a request. Lines
//! that do not fit into its buffer are dropped and counted.

mod left_out;

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

pub use self::left_out::LeftOut;

/// Lines that may wait to be written.
const BUFFER_SIZE: usize = 4096;

static DROPPED: AtomicI64 = AtomicI64::new(0);
static DIAGNOSTICS: OnceLock<Lines> = OnceLock::new();
static ACCESS: OnceLock<Lines> = OnceLock::new();

enum Item {
    Line(Vec<u8>),
    /// The thread answers once all lines before this are written.
    Flush(SyncSender<()>),
}

/// The sending end of a buffer.
#[derive(Clone)]
struct Lines(SyncSender<Item>);

impl Lines {
    fn to(out: impl Write + Send + 'static) -> Lines {
        let (sender, receiver) = sync_channel(BUFFER_SIZE);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&receiver, out))
            .expect("the system can start a thread");
        Lines(sender)
    }

    fn send(&self, line: Vec<u8>) {
        if self.0.try_send(Item::Line(line)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_all(items: &Receiver<Item>, mut out: impl Write) {
    for item in items {
        match item {
            // The server keeps running without its output.
            Item::Line(line) => drop(out.write_all(&line)),
            Item::Flush(written) => {
                drop(out.flush());
                let _ = written.send(());
            }
        }
    }
}

/// The output of `env_logger`, which writes one whole line at a time.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts `env_logger` on standard error with this filter, and logs panics too. Later calls have no effect.
pub fn start(filter: &str) {
    let lines = DIAGNOSTICS.get_or_init(|| Lines::to(io::stderr()));
    let started = env_logger::Builder::new()
        .filter_module("actix_server", log::LevelFilter::Warn)
        .parse_filters(filter)
        .target(env_logger::Target::Pipe(Box::new(lines.clone())))
        .format(|out, record| {
            if may_quote_requests(record) {
                return Ok(());
            }
            let line = json!({
                "time": unix_time(),
                "level": record.level().as_str(),
                "target": record.target(),
                "message": record.args().to_string(),
            });
            writeln!(out, "{line}")
        })
        .try_init();
    drop(started);
    // A panic becomes one line of JSON instead of several plain ones.
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// Whether a record of the framework may quote what a client sent, which can be a secret. Such records are never
/// logged, whatever the filter: Gatebird itself answers, counts and logs these requests.
fn may_quote_requests(record: &log::Record<'_>) -> bool {
    let is_of = |name: &str| record.target().starts_with(name);
    is_of("actix_http") || (is_of("actix_") && record.level() > log::Level::Info)
}

/// Writes one line of the access log to standard output.
pub fn access(mut line: Value) {
    line["time"] = unix_time().into();
    write_line(line.to_string());
}

/// Writes text to standard output between lines of the access log. This never blocks.
pub fn write_line(text: String) {
    ACCESS.get_or_init(|| Lines::to(io::stdout())).send((text + "\n").into_bytes());
}

/// The number of lines dropped so far.
pub fn dropped() -> i64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Waits until all lines so far are written, for at most one second per output. Call it before the process exits.
pub fn flush() {
    for lines in [DIAGNOSTICS.get(), ACCESS.get()].into_iter().flatten() {
        let (written, done) = sync_channel(1);
        if lines.0.try_send(Item::Flush(written)).is_ok() {
            let _ = done.recv_timeout(Duration::from_secs(1));
        }
    }
}

/// Unix seconds with milliseconds.
fn unix_time() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "the time of a log line affects nothing else")]
    let now = SystemTime::now();
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    millis as f64 / 1000.0
}
