//! The SQLite file: created if it is missing, locked by a server, and watched while the server runs.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::wal;
use super::witness::{Header, Mark, Position, Witness, beside, changed, created, is_restored, modified};
use crate::config::Database;
use crate::exit::Exit;

/// How long a server waits for the lock on its file, or for another process to remove the log.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// The write-ahead log of the file.
pub(super) fn log_of(file: &Path) -> PathBuf {
    with_suffix(file, "-wal")
}

/// The shared-memory index of the log.
pub(super) fn index_of(file: &Path) -> PathBuf {
    with_suffix(file, "-shm")
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns whether the log of the file has content. A new database is only in its log until the first checkpoint.
pub(super) fn has_log(file: &Path) -> bool {
    fs::metadata(log_of(file)).is_ok_and(|log| log.len() > 0)
}

fn device_and_inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The SQLite file that this process serves. The lock excludes other servers; the command line may use the database
/// meanwhile.
#[derive(Debug)]
pub(super) struct SqliteFile {
    /// The path in the settings, which must keep leading to this file.
    path: PathBuf,
    /// The path without links.
    canonical: PathBuf,
    /// Stays open while the database is open: closing any handle of the file releases the locks that SQLite holds on
    /// it.
    file: File,
    device_and_inode: (u64, u64),
    /// The same for the log and its index, from the first checkpoint on. They exist as long as a connection does.
    log_and_index: Mutex<Option<[(u64, u64); 2]>>,
    witness: Mutex<Option<Witness>>,
    was_intact: AtomicBool,
    /// Whether the file was replaced before this process took it.
    was_replaced: bool,
    /// Held while this process serves.
    _lock: File,
}

impl SqliteFile {
    /// Locks and checks the file, before it is opened as a database.
    pub(super) fn open(path: &Path) -> Result<SqliteFile, Exit> {
        create(path)?;
        let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let deadline = Instant::now() + LOCK_TIMEOUT;
        let lock = loop {
            match lock(&canonical)? {
                Some(lock) => break lock,
                // A command may hold the lock for a moment, to check whether a server runs.
                None if Instant::now() < deadline => std::thread::sleep(LOCK_TIMEOUT / 10),
                None => return Err(in_use(path)),
            }
        };
        check_log(&canonical)?;
        let cannot = |error| Exit::cannot_create(format!("cannot open {}: {error}", path.display()));
        let file = File::open(&canonical).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        let witness = Witness::read(&canonical);
        Ok(SqliteFile {
            // Checked before anything is written to the file.
            was_replaced: witness.is_some_and(|witness| !witness.is_of(&file)),
            path: path.to_owned(),
            device_and_inode: device_and_inode(&metadata),
            log_and_index: Mutex::new(None),
            // The mark shows whether the file is as the former process left it. From the next checkpoint on, the
            // modification time does too.
            witness: Mutex::new(witness.map(|witness| Witness { modified: None, ..witness })),
            was_intact: AtomicBool::new(true),
            canonical,
            file,
            _lock: lock,
        })
    }

    /// Returns whether the database is not the one that a server used here before, or is an earlier state of it.
    pub(super) fn was_restored(&self, mark: Option<Mark>, position: Position) -> bool {
        self.was_replaced || is_restored(&self.canonical, *self.witness.lock(), mark, position)
    }

    /// Returns whether the path still leads to this file, the file is as the server left it, and its log and index are
    /// those that SQLite uses. Logs every change of the result.
    pub(super) fn is_intact(&self) -> bool {
        let intact = fs::metadata(&self.path).is_ok_and(|metadata| {
            device_and_inode(&metadata) == self.device_and_inode && self.has_its_log() && self.is_unmodified(&metadata)
        });
        match (intact, self.was_intact.swap(intact, Ordering::Relaxed)) {
            (false, true) => log::error!(
                "{0}, {0}-wal or {0}-shm was moved, deleted or replaced while this server uses it: nothing can be changed; \
                 put the file back, or restart",
                self.path.display()
            ),
            (true, false) => log::info!("{} is in its place again", self.path.display()),
            _ => {}
        }
        intact
    }

    /// Returns the last result of [`SqliteFile::is_intact`].
    pub(super) fn was_intact(&self) -> bool {
        self.was_intact.load(Ordering::Relaxed)
    }

    fn has_its_log(&self) -> bool {
        let known = *self.log_and_index.lock();
        known.is_none_or(|known| self.find_log_and_index().is_ok_and(|found| found == known))
    }

    fn find_log_and_index(&self) -> io::Result<[(u64, u64); 2]> {
        let find = |path: PathBuf| Ok::<_, io::Error>(device_and_inode(&fs::metadata(path)?));
        Ok([find(log_of(&self.canonical))?, find(index_of(&self.canonical))?])
    }

    /// Records the log and its index, which must not be replaced from now on.
    pub(super) fn expect_log(&self) -> io::Result<()> {
        let mut known = self.log_and_index.lock();
        if known.is_none() {
            *known = Some(self.find_log_and_index()?);
        }
        Ok(())
    }

    /// Allows the log and its index to disappear, because the connections are being closed.
    pub(super) fn expect_no_log(&self) {
        *self.log_and_index.lock() = None;
    }

    fn is_unmodified(&self, metadata: &Metadata) -> bool {
        let mut guard = self.witness.lock();
        let Some(witness) = guard.as_mut().filter(|witness| witness.modified.is_some()) else { return true };
        if witness.modified == Some(modified(metadata)) {
            return true;
        }
        // Another process may have moved the log into the file.
        if !witness.is_of(&self.file) {
            return false;
        }
        witness.modified = Some(modified(metadata));
        if let Err(error) = witness.write(&self.canonical, false) {
            log::warn!("cannot write the witness beside the database: {error}");
        }
        true
    }

    /// Returns whether the log has at least `bytes` bytes.
    pub(super) fn log_has_bytes(&self, bytes: u64) -> bool {
        fs::metadata(log_of(&self.canonical)).is_ok_and(|log| log.len() >= bytes)
    }

    /// Records the position of the database in the witness.
    pub(super) fn record_position(&self, position: Position) -> io::Result<()> {
        match &mut *self.witness.lock() {
            Some(witness) if witness.position != position => {
                witness.position = position;
                witness.write(&self.canonical, false)
            }
            _ => Ok(()),
        }
    }

    /// Records in the witness that the log is about to be moved into the file.
    pub(super) fn expect_changes(&self) -> io::Result<()> {
        match &mut *self.witness.lock() {
            Some(witness) => {
                witness.modified = None;
                witness.ended = false;
                witness.write(&self.canonical, true)
            }
            None => Ok(()),
        }
    }

    /// Records the beginning of a checkpoint, and returns the mark that the database must get. A checkpoint that was
    /// interrupted is continued with its mark.
    pub(super) fn begin_checkpoint(&self, mark: Option<Mark>, position: Position) -> io::Result<Mark> {
        let mut witness = self.witness.lock();
        let former = witness.filter(|former| mark.is_some_and(|mark| former.has_mark(mark)));
        let begun = former.and_then(|former| former.next).filter(|next| mark == Some(*next));
        let next = begun.unwrap_or_else(Mark::random);
        let mark = former.map(|former| former.mark).or(mark).unwrap_or(next);
        let mut new = Witness {
            mark,
            next: Some(next),
            header: former.map_or_else(|| Header::read(&self.file), |former| Ok(former.header))?,
            position,
            inode: self.device_and_inode.1,
            modified: None,
            ended: false,
            created: None,
        };
        new.write(&self.canonical, true)?;
        *witness = Some(new);
        Ok(next)
    }

    /// Records the end of a checkpoint if the file has its mark. Returns whether it has.
    pub(super) fn end_checkpoint(&self) -> io::Result<bool> {
        let mut guard = self.witness.lock();
        let Some(witness) = guard.as_mut() else { return Ok(false) };
        let header = Header::read(&self.file)?;
        let arrived = witness.next.filter(|next| header.mark == Some(*next));
        if let Some(mark) = arrived {
            // SQLite does not synchronize the file if the log has grown meanwhile.
            self.file.sync_data()?;
            (witness.mark, witness.next, witness.header) = (mark, None, header);
            witness.modified = Some(modified(&fs::metadata(&self.path)?));
            witness.write(&self.canonical, true)?;
        }
        Ok(arrived.is_some())
    }

    /// Records a clean shutdown.
    pub(super) fn end(&self) -> io::Result<()> {
        let mut guard = self.witness.lock();
        let Some(witness) = guard.as_mut() else { return Ok(()) };
        witness.ended = true;
        witness.modified = Some(modified(&fs::metadata(&self.path)?));
        witness.write(&self.canonical, true)
    }
}

/// Takes the lock of a server; `None` if a server holds it. The lock is a file beside the target of all links, so that
/// every name of a database shares one lock.
pub(super) fn lock(canonical: &Path) -> Result<Option<File>, Exit> {
    let path = beside(canonical, "lock");
    let cannot = |error: io::Error| Exit::cannot_create(format!("cannot open {}: {error}", path.display()));
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(cannot(error)),
    }
}

/// Returns whether there is a database. The file of a new database is empty until the first checkpoint, so a log
/// counts. SQLite treats a file of one byte as empty.
///
/// # Errors
/// Exit code 65 if the file is empty but a stored secret beside it shows that there was a database.
pub(super) fn exists(path: &Path) -> Result<bool, Exit> {
    let secret = Database::secret_file(path);
    match fs::metadata(path) {
        Ok(file) if file.len() > 1 || has_log(path) => Ok(true),
        Ok(_) if secret.exists() => Err(Exit::data(format!(
            "{path} is empty, but {secret} beside it shows that there was a database: restore a backup, or remove {path} to \
             start with a new one",
            path = path.display(),
            secret = secret.display()
        ))),
        _ => Ok(false),
    }
}

/// Creates the folder of the database file, accessible to its owner only.
pub(super) fn create_folder(path: &Path) -> Result<(), Exit> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| cannot_create(folder, &error))
}

/// Creates the database file if it is missing, accessible to its owner only. An existing file is not opened: closing it
/// again would release the locks that SQLite holds on it.
///
/// # Errors
/// As [`exists`]; exit code 73 if the file cannot be created.
pub(super) fn create(path: &Path) -> Result<(), Exit> {
    exists(path)?;
    create_folder(path)?;
    if path.exists() {
        return Ok(());
    }
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    made.map(drop).map_err(|error| cannot_create(path, &error))
}

fn cannot_create(path: &Path, error: &io::Error) -> Exit {
    Exit::cannot_create(format!("cannot create {}: {error}; check DATABASE_URL", path.display()))
}

/// Two servers on one SQLite file would not see each other's changes in time.
pub(super) fn in_use(path: &Path) -> Exit {
    Exit::cannot_create(format!(
        "{} is in use by another gatebird; stop that process, give this one its own DATABASE_URL, or let both use PostgreSQL",
        path.display()
    ))
}

/// Checks the log of a file that this process does not serve, unless a server uses it. Returns `false` if a server uses
/// it.
pub(super) fn check_unserved(path: &Path) -> Result<bool, Exit> {
    let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let unserved = lock(&canonical)?;
    if unserved.is_some() {
        check_log(&canonical)?;
    }
    Ok(unserved.is_some())
}

/// Returns whether a file that no server uses was restored or copied since a server used it.
pub(super) fn was_restored(path: &Path, mark: Option<Mark>, position: Position) -> bool {
    let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    is_restored(&canonical, Witness::read(&canonical), mark, position)
}

/// Refuses a write-ahead log that was written for another file, because SQLite would replay it.
pub(super) fn check_log(canonical: &Path) -> Result<(), Exit> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    // The last process that closes the file moves the log into the file and then removes the log.
    while !has_own_log(canonical) {
        if Instant::now() >= deadline {
            return Err(Exit::data(format!(
                "{log} does not belong to {file}, which was replaced; to restore a backup: gatebird restore FILE; to use the \
                 file as it is: move {log} elsewhere and keep it, because it may contain the latest changes; if the file was \
                 not replaced: remove {witness}",
                log = log_of(canonical).display(),
                file = canonical.display(),
                witness = beside(canonical, "witness").display()
            )));
        }
        std::thread::sleep(LOCK_TIMEOUT / 10);
    }
    Ok(())
}

/// Returns whether the log beside a file, if there is one, was written for that file.
fn has_own_log(canonical: &Path) -> bool {
    let log = log_of(canonical);
    let Some(witness) = Witness::read(canonical).filter(|_| fs::metadata(&log).is_ok_and(|log| log.len() > 0)) else {
        return true;
    };
    if !witness.is_original(canonical) {
        // The witness was copied, perhaps together with the file and its log.
        return !witness.ended;
    }
    let Ok((file, log_file)) = File::open(canonical).and_then(|file| Ok((file, File::open(&log)?))) else {
        return false;
    };
    let (Ok(of_file), Ok(of_log)) = (file.metadata(), log_file.metadata()) else { return false };
    // A log is younger than the last change of its file only if it was created for that content.
    if created(&of_log).is_some_and(|created| created as i128 >= changed(&of_file)) {
        return true;
    }
    // Power loss may set the modification time back, but only new content advances it. New content belongs to another
    // file, unless the log was written since, or the content came from the log by a checkpoint of any process.
    let is_known = witness.modified.is_none_or(|known| modified(&of_file) <= known);
    let is_current = || modified(&of_file) <= modified(&of_log);
    of_file.ino() == witness.inode
        && witness.is_of(&file)
        && (is_known || is_current() || wal::was_checkpointed(&log_file, &file).unwrap_or(false))
}
