//! A MariaDB of a test's own: made in a temporary folder, reached by a socket in it, gone with it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::binary::within;

pub struct MariaDb {
    dir: TempDir,
    server: std::process::Child,
}

impl MariaDb {
    /// With the tables of the original, in a database `nodebird`.
    pub fn start(schema: &str) -> MariaDb {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let data = format!("--datadir={}", dir.path().join("data").display());
        // Whoever owns the folder runs this, and root has to say so.
        let is_root = dir.path().metadata().expect("a folder").uid() == 0;
        let user: &[&str] = if is_root { &["--user=root"] } else { &[] };
        let mut install = command("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &data]).args(user);
        done(&install.output().expect("mariadb-install-db of the package mariadb-server"));
        let mut server = command("mariadbd");
        server.args(["--no-defaults", "--skip-networking", "--skip-log-bin", "--default-time-zone=+09:00", &data]);
        server.args(user).arg(format!("--socket={}", dir.path().join("s").display()));
        server.arg(format!("--pid-file={}", dir.path().join("pid").display()));
        let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let started = MariaDb { dir, server: server.expect("mariadbd of the package mariadb-server") };
        let answers =
            || started.client("").args(["--execute", "SELECT 1"]).output().is_ok_and(|out| out.status.success());
        within(Duration::from_secs(60), "MariaDB answers", answers);
        done(
            &started
                .client("")
                .args(["--execute", "CREATE DATABASE nodebird CHARACTER SET utf8mb4"])
                .output()
                .expect("mariadb"),
        );
        started.run(schema);
        started
    }

    fn client(&self, database: &str) -> Command {
        let mut client = command("mariadb");
        client.arg("--no-defaults").arg(format!("--socket={}", self.dir.path().join("s").display()));
        client
            .args(["--user=root", "--default-character-set=utf8mb4"])
            .args(Some(database).filter(|name| !name.is_empty()));
        client
    }

    /// Runs statements on `nodebird`.
    pub fn run(&self, statements: &str) {
        done(&self.client("nodebird").args(["--execute", statements]).output().expect("mariadb"));
    }

    /// What the documented command writes.
    pub fn export(&self) -> String {
        let statement = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nodebird-export.sql");
        let mut export = self.client("nodebird");
        export.args(["--quick", "--batch", "--raw", "--skip-column-names"]);
        done(&export.stdin(std::fs::File::open(statement).expect("the statement")).output().expect("mariadb"))
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// A program of MariaDB. The server stands in a folder that not everybody's PATH has.
fn command(name: &str) -> Command {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let found = folders.iter().map(|folder| PathBuf::from(folder).join(name)).find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| name.into()))
}

#[track_caller]
fn done(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{} {}", text(&output.stdout), text(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}
