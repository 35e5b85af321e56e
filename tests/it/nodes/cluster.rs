//! A PostgreSQL of one test, which can stop, freeze and restart it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use diesel::{Connection, PgConnection};
use tempfile::TempDir;

use crate::binary::{free_port, signal, within};
use crate::harness::needs_postgres;
use crate::programs;

/// PostgreSQL refuses to run as root. As root, the tests try these users.
const USERS: &[&str] = &["postgres", "nobody"];

/// Whether a test can have a [`Cluster`]. Otherwise the test is left out and must return.
#[must_use]
pub fn is_available() -> bool {
    needs_postgres().is_some() && programs::installed(&["initdb", "postgres"])
}

/// A temporary cluster, deleted on drop.
pub struct Cluster {
    dir: TempDir,
    port: u16,
    owner: Option<(u32, u32)>,
    postmaster: Option<Child>,
}

impl Cluster {
    pub fn start() -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let owner = unprivileged_user();
        if let Some((user, group)) = owner {
            chown(dir.path(), Some(user), Some(group)).expect("root can change owners");
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("a writable file");
        let mut cluster = Cluster { dir, port: free_port(), owner, postmaster: None };
        let data = cluster.data();
        let mut initdb = cluster.command("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--username=gatebird", "--encoding=UTF8", "--locale=C", "-D"]);
        let output = initdb.arg(&data).output().expect("initdb runs");
        assert!(output.status.success(), "{output:?}");
        cluster.resume();
        cluster
    }

    /// A read-only standby that follows this cluster.
    pub fn standby(&self) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary folder");
        if let Some((user, group)) = self.owner {
            chown(dir.path(), Some(user), Some(group)).expect("root can change owners");
        }
        let mut standby = Cluster { dir, port: free_port(), owner: self.owner, postmaster: None };
        let mut copy = standby.command("pg_basebackup");
        copy.args(["--no-sync", "--write-recovery-conf", "--checkpoint=fast", "-d", &self.url(), "-D"]);
        let output = copy.arg(standby.data()).output().expect("pg_basebackup runs");
        assert!(output.status.success(), "{output:?}");
        standby.resume();
        standby
    }

    pub fn url(&self) -> String {
        format!("postgres://gatebird@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(programs::find(name).expect("a program of PostgreSQL"));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts the cluster, and waits until it answers.
    pub fn resume(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).expect("a file");
        let settings = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.dir.path().display()),
            "fsync=off".to_owned(),
            "autovacuum=off".to_owned(),
            "shared_buffers=16MB".to_owned(),
        ];
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        for setting in settings {
            command.args(["-c", &setting]);
        }
        command.stdout(Stdio::null()).stderr(log);
        self.postmaster = Some(command.spawn().expect("postgres runs"));
        let url = self.url();
        within(Duration::from_secs(20), "PostgreSQL answers", || PgConnection::establish(&url).is_ok());
    }

    /// `pg_ctl stop -m immediate`.
    pub fn stop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            signal("QUIT", postmaster.id());
            postmaster.wait().expect("a child of this process");
        }
    }

    /// Suspends all its processes. No connection ends.
    pub fn freeze(&self) {
        within(Duration::from_secs(5), "everything stands still", || {
            self.all("STOP");
            // It may have been about to start one more process.
            self.processes().into_iter().all(|pid| status(pid, "State:").is_none_or(|state| state.starts_with('T')))
        });
    }

    pub fn thaw(&self) {
        self.all("CONT");
    }

    /// The postmaster first. Other processes may end meanwhile.
    fn all(&self, name: &str) {
        for pid in self.processes() {
            drop(Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null()).status());
        }
    }

    fn processes(&self) -> Vec<u32> {
        let postmaster = self.postmaster.iter().map(Child::id);
        postmaster.flat_map(|pid| [vec![pid], children_of(pid)].concat()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.thaw();
        self.stop();
    }
}

/// User and group id of a user that is not root, if this process is root.
pub fn unprivileged_user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").expect("Linux").uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("Linux");
    let numbers = |name: &&str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse().ok());
        Some((fields.next()??, fields.next()??))
    };
    Some(USERS.iter().find_map(numbers).expect("a user that is not root"))
}

fn children_of(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    let entries = fs::read_dir("/proc").expect("Linux");
    let processes = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(|pid| status(*pid, "PPid:").is_some_and(|pid| pid == parent)).collect()
}

/// A line of the status of a process, if it exists.
fn status(pid: u32, line: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|text| text.strip_prefix(line)).map(|rest| rest.trim().to_owned())
}
