//! The background threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::App;
use crate::error::Result;
use crate::exit::Exit;

type Work = fn(&App) -> Result<()>;

/// The name of each thread, the pause before each call of its work, and the work. Nothing depends on a call being on
/// time, except that other nodes must learn of used assertions, which the flush writes, within two seconds.
const THREADS: [(&str, Duration, Work); 6] = [
    ("flush", Duration::from_millis(500), |app| app.flush()),
    ("file watch", Duration::from_millis(500), |app| app.db.watch_file(false)),
    ("removal of deleted data", Duration::from_secs(1), |app| app.remove_leftovers()),
    ("maintenance", Duration::from_secs(20), |app| app.maintain()),
    ("host verification", Duration::from_secs(60), |app| {
        while app.recheck_hosts()? > 0 && !app.is_draining() {}
        Ok(())
    }),
    ("access log", Duration::from_secs(60), |app| {
        app.left_out_lines.write();
        Ok(())
    }),
];

/// Starts the threads. They end with the app.
pub(super) fn start(app: &Arc<App>) -> std::result::Result<(), Exit> {
    for (name, interval, work) in THREADS {
        let app = Arc::downgrade(app);
        spawn(name, move || repeat(name, interval, &app, work))?;
    }
    Ok(())
}

/// Starts a thread.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::result::Result<(), Exit> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).map_err(|error| Exit::software(format!("cannot start a thread: {error}")))
}

fn repeat(name: &str, interval: Duration, app: &Weak<App>, work: Work) {
    lower_priority();
    let mut has_failed = false;
    loop {
        std::thread::sleep(interval);
        let Some(app) = app.upgrade() else { return };
        let done = catch_unwind(AssertUnwindSafe(|| work(&app)));
        match &done {
            Ok(Ok(())) if has_failed => log::info!("{name}: succeeded again"),
            Ok(Err(error)) if !has_failed => {
                let cause = error.cause().unwrap_or("the database does not answer");
                log::warn!("{name}: failed, will be retried: {cause}");
            }
            Ok(_) => {}
            Err(_) => log::error!("{name}: panicked, will be retried"),
        }
        has_failed = matches!(done, Ok(Err(_)));
    }
}

/// Lets the threads that serve requests run first where this thread would compete with them for a core.
fn lower_priority() {
    /// Such a thread gets a tenth of a busy core (sched(7)).
    #[cfg(target_os = "linux")]
    const NICENESS: i32 = 10;
    // On Linux, a priority belongs to one thread, and no process id means the calling one.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICENESS);
}
