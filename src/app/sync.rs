//! Synchronisation of the directory: a thread applies what other nodes and the command line have changed in the
//! database.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{App, background};
use crate::db::Conn;
use crate::error::{Error, Result};
use crate::exit::Exit;

/// How often a node reads changes. They must be in force within two seconds; this leaves time for a busy machine.
const REFRESH_INTERVAL: Duration = Duration::from_millis(500);

/// A refresh that makes no progress for this long is abandoned, and the next one uses a new connection.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// How many abandoned refreshes may exist at a time.
const MAX_ABANDONED: usize = 4;

/// Starts the synchronisation thread. It ends with the app.
pub(super) fn start(app: Weak<App>, connection: Conn) -> std::result::Result<(), Exit> {
    let following = move || {
        let mut attempts = Attempts { connection: Some(connection), abandoned: Vec::new() };
        let mut last_failure: Option<String> = None;
        loop {
            std::thread::sleep(REFRESH_INTERVAL);
            let Some(app) = app.upgrade() else { return };
            let failure = attempts.refresh(Arc::clone(&app)).err();
            if app.directory.is_stale() && failure == last_failure && app.end_process().is_ok() {
                return;
            }
            match (&failure, &last_failure) {
                (None, Some(_)) => log::info!("the directory is up to date again"),
                // A new reason is logged too, such as that this node must be restarted.
                (Some(why), _) if failure != last_failure => log::error!("the directory cannot be refreshed: {why}"),
                _ => {}
            }
            last_failure = failure;
        }
    };
    background::spawn("directory", following)
}

/// Runs each refresh on its own thread, so that one whose connection hangs can be abandoned: the client libraries have
/// no time limit that covers every case.
struct Attempts {
    /// The connection of the previous refresh, if that succeeded.
    connection: Option<Conn>,
    abandoned: Vec<Receiver<Result<Conn>>>,
}

impl Attempts {
    fn refresh(&mut self, app: Arc<App>) -> std::result::Result<(), String> {
        self.abandoned.retain(|attempt| matches!(attempt.try_recv(), Err(TryRecvError::Empty)));
        if self.abandoned.len() >= MAX_ABANDONED {
            return Err("the database does not respond".to_owned());
        }
        let (sender, attempt) = channel();
        let connection = self.connection.take();
        let mut revision = app.directory.revision();
        let attempting = Arc::clone(&app);
        let refresh = move || sender.send(attempting.refresh(connection));
        std::thread::Builder::new().spawn(refresh).map_err(|error| format!("cannot start a thread: {error}"))?;
        loop {
            let before = revision;
            match attempt.recv_timeout(PROGRESS_TIMEOUT) {
                Ok(result) => {
                    let failed = |error: Error| error.cause().unwrap_or("the database does not answer").to_owned();
                    self.connection = Some(result.map_err(failed)?);
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    revision = app.directory.revision();
                    if revision == before {
                        self.abandoned.push(attempt);
                        return Err("the database does not respond".to_owned());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err("the refresh panicked".to_owned()),
            }
        }
    }
}
