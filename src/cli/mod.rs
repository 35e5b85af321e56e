//! The command line: `serve`, which is the default, and the commands of the operator.
//!
//! Running servers see the changes of a command within two seconds. Passwords are read from the terminal or from
//! standard input, never from an argument.

mod archive;
mod audit;
mod domains;
mod import;
mod keys;
mod operator;
mod restore;
mod users;
mod version_use;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use self::audit::AuditCommand;
use self::domains::DomainCommand;
use self::import::ImportCommand;
use self::keys::KeyCommand;
use self::operator::Operator;
use self::restore::Restore;
use self::users::UserCommand;
use self::version_use::VersionUse;
use crate::config::{Config, Setting};
use crate::db::Db;
use crate::exit::Exit;
use crate::server;

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
    /// Migrate the database to this version and exit.
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
    /// List the domains that still call a version of the API.
    VersionUse(VersionUse),
    /// List, verify, archive and export the audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Import users and domains from another system.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Replace the database by a backup, or declare that it was restored by other means. Revokes every earlier token.
    Restore(Restore),
    /// Print every setting with its value and its source. Secrets are masked.
    CheckConfig,
}

/// Runs one command.
///
/// # Errors
/// The message and the exit status of the failed command.
pub fn run(args: impl Iterator<Item = OsString>) -> Result<(), Exit> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return Err(Exit::usage(error.render().to_string().trim_end())),
        Err(help) => return print(&help.render().to_string()),
    };
    let config = Config::read()?;
    let out = Output { json: cli.json };
    let command = cli.command.unwrap_or(Command::Serve);
    if !matches!(command, Command::Serve) {
        // A closed standard error must not stop the command.
        config.warnings.iter().for_each(|warning| drop(writeln!(io::stderr(), "{warning}")));
    }
    match command {
        Command::Serve => server::serve(config, |_| {}),
        Command::CheckConfig => check_config(&config, out),
        Command::Migrate => {
            let applied = Db::migrate(&config.database)?;
            let lines = if applied.is_empty() { "nothing to do".to_owned() } else { applied.join("\n") };
            out.print(&json!({ "applied": applied }), &lines)
        }
        Command::User(command) => Operator::open(config, out, command.creates())?.user(command),
        Command::Domain(command) => Operator::open(config, out, false)?.domain(command),
        Command::VersionUse(command) => Operator::open(config, out, false)?.version_use(&command),
        Command::Import(command) => Operator::open(config, out, true)?.import(command),
        Command::Key(command) => Operator::open(config, out, false)?.key(command),
        Command::Restore(command) => command.run(config, out),
        Command::Audit(command) => Operator::open(config, out, false)?.audit(command),
    }
}

fn print(text: &str) -> Result<(), Exit> {
    match write(text) {
        // The reader closed the pipe, as in `gatebird user list | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| cannot_write(&error)),
    }
}

/// Prints the result of a change.
fn print_changed(text: &str) -> Result<(), Exit> {
    print(text).map_err(|exit| Exit { line: format!("the change was made, but its result is lost: {exit}"), ..exit })
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end())?;
    out.flush()
}

fn cannot_write(error: &io::Error) -> Exit {
    Exit::cannot_create(format!("cannot write: {error}"))
}

/// The format of results.
#[derive(Clone, Copy)]
struct Output {
    json: bool,
}

impl Output {
    fn print(self, value: &Value, lines: &str) -> Result<(), Exit> {
        print(&self.text(value, lines))
    }

    /// Prints a list, as a JSON array or as one line per item. Without items, the line is `none`.
    fn print_list<T>(self, items: &[T], show: impl Fn(&T) -> (Value, String), none: &str) -> Result<(), Exit> {
        let (values, lines): (Vec<Value>, Vec<String>) = items.iter().map(show).unzip();
        let lines = if lines.is_empty() { none } else { &lines.join("\n") };
        self.print(&values.into(), lines)
    }

    /// Prints the result of a change.
    fn print_changed(self, value: &Value, lines: &str) -> Result<(), Exit> {
        print_changed(&self.text(value, lines))
    }

    /// Prints a new secret. Unlike [`print`], a closed pipe is an error, because the secret is lost; `otherwise` says
    /// so.
    fn print_secret(self, value: &Value, lines: &str, otherwise: &str) -> Result<(), Exit> {
        write(&self.text(value, lines)).map_err(|error| {
            let Exit { line, code } = cannot_write(&error);
            Exit { line: format!("{otherwise}: {line}"), code }
        })
    }

    fn text(self, value: &Value, lines: &str) -> String {
        if self.json { value.to_string() } else { lines.to_owned() }
    }
}

fn check_config(config: &Config, out: Output) -> Result<(), Exit> {
    let show = |Setting { key, shown, source }: &Setting| {
        let source = source.name();
        (json!({ "key": key, "value": shown, "source": source }), format!("{key:<22} {shown} ({source})"))
    };
    out.print_list(&config.settings, show, "")
}
