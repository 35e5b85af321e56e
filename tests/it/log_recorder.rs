//! Records what the servers of this process log. Tests run concurrently, so a test must look for a line of its own.

use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

struct Recorder(Mutex<Vec<String>>);

static RECORDER: Recorder = Recorder(Mutex::new(Vec::new()));

impl Log for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("gatebird")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {}", record.level(), record.args());
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }

    fn flush(&self) {}
}

/// Records everything that is logged at `info` and above from now on.
pub fn record() {
    // Another test may have installed it already.
    drop(log::set_logger(&RECORDER));
    log::set_max_level(LevelFilter::Info);
}

/// How many recorded lines contain that text.
pub fn count(text: &str) -> usize {
    RECORDER.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|line| line.contains(text)).count()
}
