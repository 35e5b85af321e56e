//! Other programs that some tests run. A test is left out where its program is missing, and fails there with `CI=true`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Whether these programs are installed. Otherwise the test is left out and must return.
#[must_use]
pub fn installed(names: &[&str]) -> bool {
    let missing = names.iter().find(|name| find(name).is_none());
    missing.inspect(|name| leave_out(&format!("{name} is not installed"))).is_none()
}

pub fn find(name: &str) -> Option<PathBuf> {
    folders().into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The `PATH` in which [`find`] looks.
pub fn path() -> OsString {
    env::join_paths(folders()).expect("no colon in a folder's name")
}

/// The same with that folder first.
pub fn path_with(folder: &Path) -> OsString {
    env::join_paths([vec![folder.into()], folders()].concat()).expect("no colon in a folder's name")
}

/// The folders of this process, and those that Debian keeps out of most users' `PATH`.
fn folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let postgres = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut postgres: Vec<PathBuf> = postgres.map(|version| version.path().join("bin")).collect();
    postgres.sort();
    let servers = ["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(servers).chain(postgres.into_iter().rev()).collect()
}

/// Reports that this test is left out.
///
/// # Panics
/// With `CI=true`, where every test must run.
pub fn leave_out(reason: &str) {
    assert!(env::var_os("CI").is_none_or(|value| value != "true"), "{reason}, and with CI=true no test may be skipped");
    let thread = std::thread::current();
    // libtest hides what a test that passes prints by `eprintln!`.
    drop(writeln!(std::io::stderr(), "{} is left out: {reason}", thread.name().unwrap_or("a test")));
}
