//! A MariaDB for one test, in a temporary folder. It listens on a socket in that folder only.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::binary::within;
use crate::programs;

/// The programs that a [`MariaDb`] needs.
pub const PROGRAMS: &[&str] = &["mariadb-install-db", "mariadbd", "mariadb"];

pub struct MariaDb {
    dir: TempDir,
    server: std::process::Child,
}

impl MariaDb {
    /// Starts a server with a database `nodebird`, and runs these statements on it.
    pub fn start(schema: &str) -> MariaDb {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let data = format!("--datadir={}", dir.path().join("data").display());
        // MariaDB runs as root only with this option.
        let is_root = dir.path().metadata().expect("a folder").uid() == 0;
        let user: &[&str] = if is_root { &["--user=root"] } else { &[] };
        let mut install = command("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &data]).args(user);
        done(&install.output().expect("mariadb-install-db runs"));
        let mut server = command("mariadbd");
        server.args(["--no-defaults", "--skip-networking", "--skip-log-bin", "--default-time-zone=+09:00", &data]);
        server.args(user).arg(format!("--socket={}", dir.path().join("s").display()));
        server.arg(format!("--pid-file={}", dir.path().join("pid").display()));
        let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let started = MariaDb { dir, server: server.expect("mariadbd runs") };
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

    /// The output of the documented export command.
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

fn command(name: &str) -> Command {
    Command::new(programs::find(name).expect("a program of MariaDB"))
}

#[track_caller]
fn done(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{} {}", text(&output.stdout), text(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}
