//! Following the directory's tables, so that this node knows what others and the command line changed.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::App;
use crate::db::Conn;
use crate::error::{Error, Result};
use crate::exit::Exit;

/// How often a node reads what other nodes changed: four times within the two seconds that are promised, since a busy
/// machine may let both this thread and the database wait.
const REFRESH: Duration = Duration::from_millis(500);

/// After so long without a step forward a refresh is given up and another one is begun, on another connection.
const HANGS: Duration = Duration::from_secs(3);
/// So many given up ones may be there at once.
const MOST_HANGING: usize = 4;

/// Reads the difference twice a second on a thread of its own, until the app is gone.
pub(super) fn keep_fresh(app: Weak<App>, follower: Conn) -> std::result::Result<(), Exit> {
    let following = move || {
        let mut attempts = Attempts { follower: Some(follower), hanging: Vec::new() };
        let mut known: Option<String> = None;
        loop {
            std::thread::sleep(REFRESH);
            let Some(app) = app.upgrade() else { return };
            let failure = attempts.refresh(Arc::clone(&app)).err();
            if app.directory.is_outdated() && failure == known && app.leave().is_ok() {
                return;
            }
            match (&failure, &known) {
                (None, Some(_)) => log::info!("the directory is fresh again"),
                // Also when another reason followed: that this node has to be restarted, once the database is back.
                (Some(why), _) if failure != known => log::error!("the directory cannot be refreshed: {why}"),
                _ => {}
            }
            known = failure;
        }
    };
    let thread = std::thread::Builder::new().name("directory".into()).spawn(following);
    thread.map(drop).map_err(|error| Exit::software(format!("cannot start a thread: {error}")))
}

/// Each attempt runs on a thread of its own: one whose connection hangs, which no time limit of ours ends, is left behind.
struct Attempts {
    /// The connection of the attempt before, if that went well.
    follower: Option<Conn>,
    hanging: Vec<Receiver<Result<Conn>>>,
}

impl Attempts {
    fn refresh(&mut self, app: Arc<App>) -> std::result::Result<(), String> {
        self.hanging.retain(|attempt| matches!(attempt.try_recv(), Err(TryRecvError::Empty)));
        if self.hanging.len() >= MOST_HANGING {
            return Err("the database hangs".to_owned());
        }
        let (sender, attempt) = channel();
        let follower = self.follower.take();
        let mut seen = app.directory.revision();
        let attempting = Arc::clone(&app);
        let refresh = move || sender.send(attempting.refresh(follower));
        std::thread::Builder::new().spawn(refresh).map_err(|error| format!("no thread: {error}"))?;
        loop {
            let before = seen;
            match attempt.recv_timeout(HANGS) {
                Ok(result) => {
                    let failed = |error: Error| error.cause().unwrap_or("the database is away").to_owned();
                    self.follower = Some(result.map_err(failed)?);
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    seen = app.directory.revision();
                    if seen == before {
                        self.hanging.push(attempt);
                        return Err("the database hangs".to_owned());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err("reading it panicked".to_owned()),
            }
        }
    }
}
