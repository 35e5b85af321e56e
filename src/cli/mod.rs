//! The command line: `serve` by default, and what an operator does beside a running server. Its changes reach the
//! server within two seconds. Passwords come from the terminal or standard input, never as an argument.

mod archive;
mod audit;
mod import;
mod keys;
mod operator;
mod restore;
mod version_use;

use std::collections::HashMap;
use std::env::VarError;
use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use self::audit::AuditCommand;
use self::import::ImportCommand;
use self::keys::KeyCommand;
use self::operator::{DomainCommand, Operator, UserCommand};
use self::restore::Restore;
use self::version_use::VersionUse;
use crate::app::App;
use crate::config::Config;
use crate::db::Db;
use crate::exit::Exit;
use crate::{logging, server};

/// Where settings come from: the environment, and below it the file `.env`.
#[derive(Debug, Default)]
pub struct Environment {
    file: HashMap<String, String>,
}

impl Environment {
    /// The process's environment over the settings of a file.
    pub fn new(file: HashMap<String, String>) -> Environment {
        Environment { file }
    }

    fn get(&self, key: &str) -> Option<String> {
        from_process(key).or_else(|| self.file.get(key).cloned())
    }

    fn source(&self, key: &str) -> &'static str {
        match from_process(key) {
            Some(_) => "environment",
            None if self.file.contains_key(key) => ".env",
            None => "default",
        }
    }
}

fn from_process(key: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the look-up that Config is given")]
    let value = std::env::var(key);
    match value {
        // Set, and good for nothing: every key refuses this character.
        Err(VarError::NotUnicode(_)) => Some(char::REPLACEMENT_CHARACTER.to_string()),
        value => value.ok().filter(|value| !value.is_empty()),
    }
}

/// The gate before an API that other people's domains call.
#[derive(Parser)]
#[command(name = "gatebird", version, about)]
struct Cli {
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API (the default).
    Serve,
    /// Bring the database up to this version and end.
    Migrate,
    /// Manage users.
    #[command(subcommand)]
    User(UserCommand),
    /// Manage domains.
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Manage signing keys (with JWT_ALGORITHM other than HS256).
    #[command(subcommand)]
    Key(KeyCommand),
    /// Who still calls a version of the API.
    VersionUse(VersionUse),
    /// Read the audit log and prove that nobody changed it.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Move in what another system has.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Put a backup in place of the database, or tell that this was done; every earlier token is refused.
    Restore(Restore),
    /// Print every setting and where it came from, secrets masked.
    CheckConfig,
}

/// Runs one command.
///
/// # Errors
/// Why it could not be done, with the process's exit status.
pub fn run(args: impl Iterator<Item = OsString>, environment: &Environment) -> Result<(), Exit> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return Err(Exit::usage(error.render().to_string().trim_end())),
        Err(help) => return print(&help.render().to_string()),
    };
    let config = Config::load(|key| environment.get(key)).map_err(Exit::config)?;
    let out = Output { json: cli.json };
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(config),
        Command::CheckConfig => check_config(&config, environment, out),
        Command::Migrate => {
            let applied = Db::migrate(&config.database)?;
            let lines = match applied.is_empty() {
                true => "nothing to do".to_owned(),
                false => applied.join("\n"),
            };
            out.print(&json!({ "applied": applied }), &lines)
        }
        Command::User(command) => Operator::open(config, out, command.adds())?.user(command),
        Command::Domain(command) => Operator::open(config, out, false)?.domain(command),
        Command::VersionUse(command) => Operator::open(config, out, false)?.version_use(&command),
        Command::Import(command) => Operator::open(config, out, true)?.import(command),
        Command::Key(command) => Operator::open(config, out, false)?.key(command),
        Command::Restore(command) => command.run(config, out),
        Command::Audit(command) => Operator::open(config, out, false)?.audit(command),
    }
}

fn print(text: &str) -> Result<(), Exit> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        // Whoever reads has read enough, as in `gatebird user list | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(cannot_write),
    }
}

fn cannot_write(error: io::Error) -> Exit {
    Exit::cannot_create(format!("cannot write: {error}"))
}

/// How results are shown.
#[derive(Clone, Copy)]
struct Output {
    json: bool,
}

impl Output {
    fn print(self, value: &Value, lines: &str) -> Result<(), Exit> {
        match self.json {
            true => print(&value.to_string()),
            false => print(lines),
        }
    }
}

fn serve(config: Config) -> Result<(), Exit> {
    logging::start(&config.log_filter);
    let system = actix_web::rt::System::new();
    system.block_on(async {
        let app = App::start(config)?;
        let cannot_bind =
            |what: String| move |error: io::Error| Exit::cannot_create(format!("cannot listen on {what}: {error}"));
        let listen = app.config.listen;
        let (api, addresses) = server::bind(&app).map_err(cannot_bind(format!("{listen} (HOST, PORT)")))?;
        let metrics = match app.config.metrics {
            Some(address) => {
                Some(server::bind_metrics(&app, address).map_err(cannot_bind(format!("{address} (METRICS_ADDR)")))?)
            }
            None => None,
        };
        let ended = |error: io::Error| Exit::software(format!("the server ended: {error}"));
        let signals = server::Signals::take().map_err(ended)?;
        for address in addresses {
            print(&greeting(&app, &address.to_string()))?;
        }
        server::run(app, api, metrics, signals).await
    })
}

fn greeting(app: &App, address: &str) -> String {
    let url = &app.config.public_url;
    let metrics = app.config.metrics.map_or("off".to_owned(), |address| format!("http://{address}/metrics"));
    format!(
        "Gatebird {version} listens on http://{address} (public: {url}), metrics: {metrics}
Data: {data:?}

Try:
  curl -s {url}/v1/signup -H 'Content-Type: application/json' -d '{{\"username\":\"alice\",\"password\":\"correct horse battery staple\"}}'
  curl -s {url}/v1/domains -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{{\"host\":\"shop.example.com\",\"type\":\"free\"}}'
  curl -s {url}/token -H 'Content-Type: application/json' -d \"{{\\\"clientSecret\\\":\\\"$SECRET\\\"}}\"
",
        version = env!("CARGO_PKG_VERSION"),
        data = app.config.database,
    )
}

fn check_config(config: &Config, environment: &Environment, out: Output) -> Result<(), Exit> {
    let rows: Vec<(&str, &str, &str)> = config
        .settings
        .iter()
        .map(|setting| (setting.key, setting.shown.as_str(), environment.source(setting.key)))
        .collect();
    let values: Vec<Value> =
        rows.iter().map(|(key, value, source)| json!({ "key": key, "value": value, "source": source })).collect();
    let lines: Vec<String> = rows.iter().map(|(key, value, source)| format!("{key:<22} {value} ({source})")).collect();
    out.print(&json!(values), &lines.join("\n"))
}
