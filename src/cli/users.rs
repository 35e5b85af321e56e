//! `gatebird user`: manages accounts.

use std::io::{self, IsTerminal};

use clap::Subcommand;
use serde_json::json;

use super::operator::{Operator, or_missing, state};
use crate::actions::accounts::{self, Signup};
use crate::app;
use crate::db::Conn;
use crate::db::user::{self, Tenant, UserRow};
use crate::error::Error;
use crate::exit::Exit;
use crate::password::{self, NewPassword};

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Create an account. The password is asked for, or read from standard input.
    Add {
        username: String,
        /// The user's display name. Defaults to the username.
        #[arg(long)]
        nick: Option<String>,
    },
    /// Set a user's password, which is asked for, or read from standard input. Revokes every earlier token of the user
    /// and of the user's domains.
    Password { username: String },
    /// List all users.
    List,
    /// Suspend a user. Revokes the tokens of the user and of the user's domains at once.
    Suspend { username: String },
    /// Resume a suspended user. Earlier tokens stay revoked.
    Resume { username: String },
}

impl UserCommand {
    pub(super) fn creates(&self) -> bool {
        matches!(self, UserCommand::Add { .. })
    }
}

impl Operator {
    pub(super) fn user(&self, command: UserCommand) -> Result<(), Exit> {
        match command {
            UserCommand::Add { username, nick } => self.add_user(&username, nick.as_deref()),
            UserCommand::Password { username } => self.set_password(&username),
            UserCommand::List => {
                let users = self.read(user::list)?;
                let show = |UserRow { tenant, created_at, .. }: &UserRow| {
                    let Tenant { id, username, nick, suspended, .. } = tenant;
                    let value = json!({ "id": id.get(), "username": **username, "nick": **nick, "suspended": suspended, "createdAt": created_at });
                    (value, format!("{:>6} {username:<40} {}", id.get(), state(*suspended)))
                };
                self.out.print_list(&users, show, "")
            }
            UserCommand::Suspend { username } => self.suspend_user(&username, true),
            UserCommand::Resume { username } => self.suspend_user(&username, false),
        }
    }

    fn add_user(&self, username: &str, nick: Option<&str>) -> Result<(), Exit> {
        let typed = read_password()?;
        let signup = Signup::parse(username, nick)?;
        let hash = self.hash(&typed, signup.context().each_ref().map(String::as_str))?;
        let new = signup.with_hash(hash, app::system_time());
        let tenant = self.change(|conn| accounts::add(conn, self.by(), &new, &self.config))?;
        let value = json!({ "id": tenant.id.get(), "username": *tenant.username, "nick": *tenant.nick });
        self.out.print_changed(&value, &format!("added user {} ({})", tenant.username, tenant.id.get()))
    }

    fn set_password(&self, username: &str) -> Result<(), Exit> {
        let user = self.find_user(username)?;
        let (username, nick) = (&user.tenant.username, &user.tenant.nick);
        let hash = self.hash(&read_password()?, [username, nick])?;
        if self.change(|conn| accounts::set_password(conn, self.by(), &user, &hash))? {
            self.out.print_changed(&json!({ "username": **username }), &format!("{username} has a new password"))
        } else {
            Err(Exit::unavailable("the user changed the password at the same time; try again"))
        }
    }

    fn suspend_user(&self, username: &str, suspended: bool) -> Result<(), Exit> {
        let suspend = |conn: &mut Conn| {
            let changed = accounts::suspend(conn, self.by(), username, suspended);
            changed.map_err(or_missing(|| unknown_user(username)))
        };
        let tenant = self.change(suspend)?;
        let value = json!({ "username": *tenant.username, "suspended": suspended });
        self.out.print_changed(&value, &format!("{} is {}", tenant.username, state(suspended)))
    }

    pub(super) fn find_user(&self, username: &str) -> Result<UserRow, Exit> {
        self.read(|conn| accounts::find(conn, username).map_err(or_missing(|| unknown_user(username))))
    }

    /// Hashes a new password. The words in `context` make it weak.
    fn hash(&self, typed: &str, context: [&str; 2]) -> Result<String, Exit> {
        let password = NewPassword::parse(typed, &context).map_err(|problem| Error::field("password", problem))?;
        Ok(password::hash_now(&password, self.config.bcrypt_cost)?)
    }
}

pub(super) fn unknown_user(username: &str) -> Exit {
    Exit::usage(format!("there is no user {username:?}; see: gatebird user list"))
}

/// Reads a password: twice from the terminal without echo, or the first line of standard input.
fn read_password() -> Result<String, Exit> {
    let unreadable = |error| Exit::usage(format!("cannot read the password: {error}"));
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(unreadable)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let first = rpassword::prompt_password("Password: ").map_err(unreadable)?;
    let second = rpassword::prompt_password("Again: ").map_err(unreadable)?;
    if first == second { Ok(first) } else { Err(Exit::usage("the two passwords differ")) }
}
