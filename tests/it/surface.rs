//! The public items of the library. A new one is deliberate, and so is the removal of one: both belong in CHANGELOG.
#![allow(non_snake_case, reason = "a test is named after its feature and its condition")]

use std::collections::BTreeSet;

const LIB: &str = include_str!("../../src/lib.rs");

/// What the documentation of the library shows at its root.
const PUBLIC: &[&str] = &[
    "AccessToken",
    "App",
    "Bearer",
    "Claims",
    "Config",
    "DomainId",
    "Error",
    "Exit",
    "Plan",
    "Scope",
    "Scoped",
    "UserId",
    "UserToken",
    "run",
    "server",
    "testing",
    "utoipa",
];

#[test]
fn public_items__are_the_listed_ones() {
    let lines: Vec<&str> = LIB.lines().collect();
    let is_hidden = |index: usize| index > 0 && lines[index - 1].trim() == "#[doc(hidden)]";
    let public = lines.iter().enumerate().filter_map(|(index, line)| {
        let item = line.strip_prefix("pub ")?.trim_end_matches([';', '{']);
        (!is_hidden(index)).then_some(item)
    });
    let mut found = BTreeSet::new();
    for item in public {
        let (kind, path) = item.split_once(' ').expect("a kind and a name");
        assert!(matches!(kind, "mod" | "use"), "src/lib.rs defines {item}: define it in a module");
        let (_, names) = path.rsplit_once("::").unwrap_or(("", path));
        let list = path.split_once('{').map_or(names, |(_, list)| list.trim_end_matches('}'));
        found.extend(list.split(',').map(str::trim));
    }
    assert_eq!(found, BTreeSet::from_iter(PUBLIC.iter().copied()), "left: in src/lib.rs; right: listed here");
}
