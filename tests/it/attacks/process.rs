//! The process itself: what other processes on the machine can read of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::binary::{Child, bare, signal};
use crate::harness::{Database, JWT_SECRET};
use crate::operations::secrecy::{assert_absent, files};

/// The user id of `nobody` on Linux. Only root can switch to this user.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("Linux").uid() == 0
}

/// Removes the privileges of root.
fn unprivileged(command: &mut Command) -> &mut Command {
    if is_root() { command.uid(NOBODY).gid(NOBODY) } else { command }
}

/// A server of an unprivileged user, started by that shell script.
fn started(database: &Database, script: &str, settings: &[(&str, &str)]) -> Child {
    let dir = database.dir.path();
    let program = dir.join("gatebird");
    // Other users may have no access to the folder in which the tests were built.
    fs::copy(env!("CARGO_BIN_EXE_gatebird"), &program).expect("a copy");
    if is_root() {
        chown(dir, Some(NOBODY), Some(NOBODY)).expect("root can change owners");
    }
    let mut command = Command::new("sh");
    command.env_clear().current_dir(dir).args(["-c", script, "sh"]).arg(&program);
    command.env("PORT", "0").env("METRICS_ADDR", "off").env("BCRYPT_COST", "4").envs(settings.iter().copied());
    Child::spawn(unprivileged(&mut command), "").wait_until_serving()
}

/// Whether a process of the same user can read that file of the process.
fn read(pid: u32, file: &str) -> bool {
    let path = format!("/proc/{pid}/{file}");
    // One byte at an address that every program of this machine has mapped.
    let mut command = Command::new("dd");
    command
        .args([&format!("if={path}"), "of=/dev/null", "bs=1", "count=1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    unprivileged(&mut command).status().expect("dd").success()
}

#[test]
fn process__memory_and_environment_are_unreadable() {
    let database = Database::sqlite();
    let child = started(&database, "exec \"$1\"", &[("JWT_SECRET", JWT_SECRET)]);
    let other = Child::spawn(unprivileged(&mut Command::new("sleep")).arg("60"), "");
    // The kernel grants access to a process only some time after its start.
    crate::binary::within(crate::binary::PROMISED, "an ordinary process can be read", || read(other.pid(), "environ"));
    for file in ["environ", "maps", "auxv", "personality"] {
        assert!(read(other.pid(), file), "{file} of an ordinary process of the same user");
        assert!(!read(child.pid(), file), "{file} of the server");
    }
    for file in ["mem", "fd", "cwd"] {
        assert!(!read(child.pid(), file), "{file} of the server");
    }
    other.kill();
    child.client.tenant("alice");
}

#[test]
fn process__files_are_private_under_every_umask() {
    for mask in ["0", "022", "077"] {
        let database = Database::sqlite();
        let child = started(&database, &format!("umask {mask}; exec \"$1\""), &[]);
        child.client.tenant("alice");
        let data = database.dir.path().join("data");
        let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700, "umask {mask}");
        let made = files(&data);
        for (name, _) in &made {
            assert_eq!(mode(Path::new(name)), 0o600, "umask {mask}: {name}");
        }
        for name in ["gatebird.db", "gatebird.db-wal", "gatebird.db-shm", "gatebird.db.lock", "jwt_secret"] {
            assert!(made.iter().any(|(path, _)| path.ends_with(name)), "{name} in {data:?}");
        }
    }
}

/// Secrets from `.env`, or generated ones, are in no place that tools show.
#[test]
fn process__secrets_from_files_stay_out_of_the_environment() {
    let database = Database::sqlite();
    let dir = database.dir.path();
    fs::write(dir.join(".env"), format!("JWT_SECRET={JWT_SECRET}\nPORT=0\nMETRICS_ADDR=off\nBCRYPT_COST=4\n"))
        .expect("a file");
    let child = Child::spawn(&mut bare(dir, &[]), "").wait_until_serving();
    let (_, domain, token) = child.client.tenant("alice");
    let canaries = [
        ("JWT_SECRET", JWT_SECRET.to_owned()),
        ("a secret", domain.secret[4..].to_owned()),
        ("a token", token.rsplit('.').next().expect("a signature").to_owned()),
    ];
    for file in ["environ", "cmdline", "comm", "status"] {
        // Root can read it; for other users the kernel denies access.
        if let Ok(bytes) = fs::read(format!("/proc/{}/{file}", child.pid())) {
            assert_absent(&canaries, file, &bytes);
        }
    }
    for (name, bytes) in files(&dir.join("data")) {
        assert_absent(&canaries, &name, &bytes);
    }
    signal("TERM", child.pid());
    let outcome = child.wait(std::time::Duration::from_secs(20));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    // Nor in the files that remain after the end.
    for (name, bytes) in files(&dir.join("data")) {
        assert_absent(&canaries, &name, &bytes);
    }
    assert!(!dir.join("core").exists(), "no core dump");
}
