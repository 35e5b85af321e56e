//! The README is short, it links to every page of `docs/`, links resolve, and every setting is listed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gatebird::Config;

/// The path of a file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// `README.md` and every page of `docs/`.
fn pages() -> Vec<PathBuf> {
    let entries = fs::read_dir(file("docs")).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).chain([file("README.md")]).collect()
}

/// The text of a page without its code blocks.
fn prose(page: &Path) -> String {
    fs::read_to_string(page).expect("a page").split("```").step_by(2).collect()
}

/// The targets of a page's links into this repository.
fn links(page: &Path) -> Vec<String> {
    let prose = prose(page);
    let targets = prose.split("](").skip(1).map(|rest| rest.split_once(')').expect("the link ends").0);
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

/// The anchors that GitHub gives to the headings of a page.
fn anchors(page: &Path) -> Vec<String> {
    let prose = prose(page);
    let headings = prose
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let is_kept = |character: &char| character.is_alphanumeric() || " -_".contains(*character);
    headings
        .map(|heading| heading.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn readme__has_at_most_150_lines() {
    let lines = fs::read_to_string(file("README.md")).expect("a page").lines().count();
    assert!(lines <= 150, "{lines} lines");
}

#[test]
fn readme__links_to_every_page() {
    let linked: Vec<PathBuf> = links(&file("README.md")).iter().map(|link| file(link)).collect();
    for page in pages() {
        assert!(linked.contains(&page) || page == file("README.md"), "{}", page.display());
    }
}

#[test]
fn links__lead_to_a_file_and_a_heading() {
    for page in pages() {
        for link in links(&page) {
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { page.clone() } else { page.with_file_name(path) };
            assert!(target.exists(), "{}: {link}", page.display());
            assert!(
                heading.is_empty() || anchors(&target).iter().any(|anchor| anchor == heading),
                "{}: {link}",
                page.display()
            );
        }
    }
}

/// The settings in the tables of a page, each with its default as printed there.
fn listed(page: &str) -> BTreeMap<String, String> {
    let prose = prose(&file(page));
    let rows = prose.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.flat_map(|(keys, rest)| {
        let (default, _) = rest.split_once("| ").expect("three columns");
        let keys: Vec<&str> = keys.split("`, `").collect();
        let quoted = default.trim().strip_prefix('`').and_then(|default| default.strip_suffix('`'));
        let quoted: Vec<&str> = quoted.map(|quoted| quoted.split("`, `").collect()).unwrap_or_default();
        // One default may stand for several keys.
        let default =
            move |number: usize| quoted.get(number).or(quoted.first()).copied().unwrap_or(default.trim()).to_owned();
        keys.into_iter().enumerate().map(move |(number, key)| (key.to_owned(), default(number))).collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn configuration_page__lists_every_setting_with_its_default() {
    let mut listed = listed("docs/configuration.md");
    let settings = Config::load(|_| None).expect("the defaults are good").settings;
    let default = |key: &str| settings.iter().find(|setting| setting.key == key).expect("a setting").shown.clone();
    for setting in &settings {
        let listed = listed.remove(setting.key).unwrap_or_else(|| panic!("{} is not listed", setting.key));
        let listed = listed.replace("$PORT", &default("PORT")).replace("$PUBLIC_URL", &default("PUBLIC_URL"));
        // The page describes these in words: they depend on the machine, on another setting, or on the first start.
        let in_words =
            ["WORKERS", "JWT_SECRET", "JWT_SECRET_PREVIOUS", "LIMIT_ADDRESS", "ALLOW_LOCAL_HOSTS", "DNS_SERVER"];
        assert!(in_words.contains(&setting.key) || listed == setting.shown, "{}: {listed}", setting.key);
    }
    assert!(listed.is_empty(), "not settings: {listed:?}");
}

#[test]
fn readme__lists_settings_with_their_defaults() {
    let all = listed("docs/configuration.md");
    let keys = ["DATABASE_URL", "JWT_ALGORITHM", "JWT_SECRET", "PUBLIC_URL", "SCOPES", "TRUSTED_PROXIES"];
    let readme = listed("README.md");
    assert_eq!(readme.keys().collect::<Vec<_>>(), keys);
    for key in ["DATABASE_URL", "JWT_ALGORITHM", "SCOPES", "TRUSTED_PROXIES"] {
        assert_eq!(readme[key], all[key], "{key}");
    }
}
