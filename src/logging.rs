//! Logs: one line of JSON per event. A thread writes the lines, so that a blocked output never blocks a request. Lines
//! that do not fit into its buffer are dropped and counted.

mod left_out;

use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use env_filter::Filter;
use log::{LevelFilter, Log, Metadata, Record};
use serde_json::{Value, json};

pub use self::left_out::LeftOut;

/// Lines that may wait to be written.
const BUFFER_SIZE: usize = 4096;

static DROPPED: AtomicI64 = AtomicI64::new(0);
static DIAGNOSTICS: LazyLock<Lines> = LazyLock::new(|| Lines::to(io::stderr()));
static ACCESS: LazyLock<Lines> = LazyLock::new(|| Lines::to(io::stdout()));

enum Item {
    Line(String),
    /// The thread answers once all lines before this are written.
    Flush(SyncSender<()>),
}

/// The sending end of a buffer.
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

    /// Hands a line over to the thread, or counts it as dropped.
    fn send(&self, mut line: String) {
        line.push('\n');
        if self.0.try_send(Item::Line(line)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_all(items: &Receiver<Item>, mut out: impl Write) {
    for item in items {
        match item {
            // The server keeps running without its output.
            Item::Line(line) => drop(out.write_all(line.as_bytes())),
            Item::Flush(written) => {
                drop(out.flush());
                let _ = written.send(());
            }
        }
    }
}

/// Writes the records of the crate `log` to standard error.
struct Logger(Filter);

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.0.matches(record) || may_quote_requests(record) {
            return;
        }
        let line = json!({
            "time": unix_time(),
            "level": record.level().as_str(),
            "target": record.target(),
            "message": record.args().to_string(),
        });
        DIAGNOSTICS.send(line.to_string());
    }

    fn flush(&self) {
        flush();
    }
}

/// Starts to log to standard error what this filter of `RUST_LOG` selects, and panics too. Later calls have no effect.
pub fn start(filter: &str) {
    let filter = env_filter::Builder::new().filter_module("actix_server", LevelFilter::Warn).parse(filter).build();
    let max_level = filter.filter();
    if log::set_boxed_logger(Box::new(Logger(filter))).is_ok() {
        log::set_max_level(max_level);
    }
    // A panic becomes one line of JSON instead of several plain ones.
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// Whether a record of the framework may quote what a client sent, which can be a secret. Such records are never
/// logged, whatever the filter: Gatebird itself answers, counts and logs these requests.
fn may_quote_requests(record: &Record<'_>) -> bool {
    let is_of = |name: &str| record.target().starts_with(name);
    is_of("actix_http") || (is_of("actix_") && record.level() > log::Level::Info)
}

/// Writes one line of the access log to standard output.
pub fn access(mut line: Value) {
    line["time"] = unix_time().into();
    ACCESS.send(line.to_string());
}

/// Writes text to standard output between lines of the access log. This never blocks.
pub fn write_line(text: String) {
    ACCESS.send(text);
}

/// The number of lines dropped so far.
pub fn dropped() -> i64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Waits until all lines so far are written, for at most one second per output. Call it before the process exits.
pub fn flush() {
    for lines in [LazyLock::get(&DIAGNOSTICS), LazyLock::get(&ACCESS)].into_iter().flatten() {
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
