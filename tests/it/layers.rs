//! The order of the modules in `src/lib.rs` under "Layers": imports go strictly down. Reads the source, so that an upward
//! import fails a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// A source file of the library.
struct File {
    /// Below `src`, such as `gate/bearer.rs`.
    path: String,
    text: String,
}

impl File {
    /// The module of the file; `main` for the binary.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().expect("a path has a first part")
    }

    /// The code without comments, which may mention anything.
    fn code(&self) -> String {
        let lines = self.text.lines().map(|line| line.split("//").next().unwrap_or_default());
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Every file of `src` except `lib.rs`, which names all modules.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![source()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of src") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(source()).expect("below src").to_string_lossy().into_owned();
            if name.ends_with(".rs") && name != "lib.rs" {
                found.push(File { path: name, text: fs::read_to_string(&path).expect("UTF-8") });
            }
        }
    }
    assert!(found.len() > 20, "src has more files than {}", found.len());
    found
}

/// The level of each module in `src/lib.rs`, 0 at the top.
fn levels() -> BTreeMap<String, usize> {
    let lib = fs::read_to_string(source().join("lib.rs")).expect("src/lib.rs");
    let (_, rest) = lib.split_once("// # Layers").expect("the section");
    let block = rest.split("```").nth(1).expect("the block").trim_start_matches("text");
    let order = block.replace("//", "");
    let levels = order.split('>').enumerate();
    levels.flat_map(|(level, names)| names.split(',').map(move |name| (name.trim().to_owned(), level))).collect()
}

/// The modules that a file's code names, as `crate::x` or `crate::{x, y::z}`.
fn named(code: &str) -> BTreeSet<String> {
    code.split("crate::").skip(1).flat_map(first_parts).collect()
}

/// The first part of each path in `a::b ...` or `{a::{b, c}, d::e} ...`: `a`, or `a` and `d`.
fn first_parts(paths: &str) -> Vec<String> {
    let first = |path: &str| {
        let name = path.trim_start().chars().take_while(|character| character.is_alphanumeric() || *character == '_');
        name.collect::<String>()
    };
    let Some(list) = paths.strip_prefix('{') else {
        return vec![first(paths)];
    };
    let mut depth = 1;
    let mut starts = vec![0];
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => starts.push(at + 1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    // Nothing follows a last comma.
    starts.into_iter().map(|at| first(&list[at..])).filter(|name| !name.is_empty()).collect()
}

#[test]
fn test_parser__reads_every_import() {
    for (code, expected) in [
        ("use crate::app::App;", "app"),
        ("use crate::{logging, password, server};", "logging password server"),
        ("use crate::{\n    db::{self, Conn, user::Tenant},\n    error,\n};", "db error"),
        ("fn f(conn: &mut crate::db::Conn) -> crate::error::Result<()> {}", "db error"),
        ("let x = crate::config::grace(&grace);", "config"),
        ("pub use crate::id;", "id"),
        ("use crate::{app::App, db::{self, user}, id}; use x::{y, z};", "app db id"),
    ] {
        let expected: BTreeSet<String> = expected.split(' ').map(str::to_owned).collect();
        assert_eq!(named(code), expected, "{code}");
    }
}

#[test]
fn layers__every_module_has_a_level() {
    let listed: BTreeSet<String> = levels().into_keys().collect();
    let existing: BTreeSet<String> = files().iter().map(|file| file.module().to_owned()).collect();
    assert_eq!(listed, existing, "left: listed in src/lib.rs; right: in src");
}

#[test]
fn layers__imports_flow_down() {
    let levels = levels();
    let mut wrong = Vec::new();
    for file in files() {
        let module = file.module();
        for name in named(&file.code()) {
            match levels.get(&name) {
                None => wrong.push(format!("{}: {name} is no module: name one by its own path", file.path)),
                Some(level) if *level < levels[module] => wrong.push(format!("{}: {name} stands above", file.path)),
                Some(_) => {}
            }
        }
        // In a file of the top level `super` is the crate; in any other file two of them are.
        let sideways = |name: &&String| {
            let up = format!("super::{name}");
            let deep = format!("super::{up}");
            file.code().contains(&deep) || (!file.path.contains('/') && file.code().contains(&up))
        };
        wrong.extend(levels.keys().filter(sideways).map(|name| format!("{}: write crate::{name}", file.path)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The hot path must not reach the database, neither by its module nor through the `App` that holds it.
#[test]
fn layers__hot_path_has_no_database_access() {
    let hot = |file: &File| {
        ["token", "gate", "plan", "shares", "secret", "host", "metrics"].contains(&file.module())
            || ["api/token.rs", "api/verify.rs", "api/well_known.rs"].contains(&file.path.as_str())
    };
    let files: Vec<File> = files().into_iter().filter(hot).collect();
    for path in [
        "token/mod.rs",
        "gate/bearer.rs",
        "gate/client.rs",
        "plan.rs",
        "shares.rs",
        "api/token.rs",
        "api/verify.rs",
        "api/well_known.rs",
    ] {
        assert!(files.iter().any(|file| file.path == path), "{path} does not exist: list its successor here");
    }
    for file in files {
        let code = file.code();
        assert!(!named(&code).contains("db"), "{} imports db", file.path);
        for way in [".db", "Db", "catch_up"] {
            assert!(!code.contains(way), "{} depends on the database: {way}", file.path);
        }
    }
}

#[test]
fn layers__sql_only_in_db() {
    for file in files().iter().filter(|file| file.module() != "db") {
        for word in ["diesel::prelude", "diesel::dsl", "sql_query", "batch_execute", "db::schema"] {
            assert!(!file.code().contains(word), "{} has {word}", file.path);
        }
    }
}

#[test]
fn layers__every_file_has_a_header() {
    for file in files() {
        let header = file.text.lines().next().unwrap_or_default();
        assert!(header.len() > 10 && header.starts_with("//! "), "{} opens with {header:?}", file.path);
    }
}

/// Rules are below the handlers, so that the command line and pages need no handler.
#[test]
fn layers__only_the_server_uses_the_handlers() {
    let uses_handlers =
        |file: &File| file.module() != "api" && file.module() != "server" && named(&file.code()).contains("api");
    let wrong: Vec<String> = files().into_iter().filter(uses_handlers).map(|file| file.path).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Tokens are judged without a database, so their types have no form for it.
#[test]
#[expect(non_snake_case, reason = "tests are named <feature>__<condition>")]
fn layers__token_has_no_sql() {
    let with_sql = |file: &File| file.module() == "token" && file.code().contains("diesel");
    let wrong: Vec<String> = files().into_iter().filter(with_sql).map(|file| file.path).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
