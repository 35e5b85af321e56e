//! The operator's commands for stored signing keys.

use clap::Subcommand;
use serde_json::{Value, json};

use super::operator::Operator;
use crate::app::keys::{self, NewKey};
use crate::app::{self, root_secret};
use crate::config::Algorithm;
use crate::db::audit::Actor;
use crate::db::signing_key::{self, SigningKey};
use crate::db::{Conn, revision};
use crate::exit::Exit;
use crate::token::keyring::{Key, KeyState, Keyring, key_states};

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// List the keys with their states.
    List {
        /// Print the public keys in PEM, for verifiers that cannot read a JWKS. The key that signs comes first.
        #[arg(long)]
        pem: bool,
    },
    /// Create the next key. It signs from 15 minutes later, when every verifier has it.
    Rotate {
        /// Sign with it from 3 seconds later. Verifiers that do not fetch unknown keys refuse its tokens for up to 5
        /// minutes.
        #[arg(long)]
        now: bool,
    },
    /// Delete a key and refuse its tokens at once. If it was the key that signs, another one takes over.
    Retire {
        /// The key id, as in tokens and in the JWKS.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Also if JWT_SECRET cannot decrypt all keys, because it was lost or is being changed. If servers are running,
        /// use their settings: they must be able to decrypt the key that takes over.
        #[arg(long)]
        lost: bool,
    },
    /// Replace all keys and revoke every earlier token, after JWT_SECRET has leaked. First stop the servers, set
    /// JWT_SECRET to a new value and remove JWT_SECRET_PREVIOUS.
    ReplaceAll,
}

impl Operator {
    pub(super) fn key(&self, command: KeyCommand) -> Result<(), Exit> {
        let now = app::system_time();
        match command {
            KeyCommand::List { pem } => {
                let rows = self.read(|conn| Ok(signing_key::list(conn)?))?;
                let life = crate::token::Kind::max_ttl(&self.config);
                let times: Vec<_> = rows.iter().map(SigningKey::times).collect();
                let rows: Vec<_> = rows.iter().zip(key_states(&times, life, now)).collect();
                if pem {
                    return self.print_pem(&rows);
                }
                let values: Vec<Value> = rows.iter().map(|(row, state)| value(row, *state)).collect();
                let lines: Vec<String> = rows.iter().map(|(row, state)| line(row, *state, now)).collect();
                let none = "no stored keys; HS256 signs with JWT_SECRET".to_owned();
                self.out.print(&json!(values), &if lines.is_empty() { none } else { lines.join("\n") })
            }
            KeyCommand::Rotate { now: at_once } => {
                if self.config.jwt_algorithm == Algorithm::Hs256 {
                    return Err(Exit::usage(
                        "HS256 signs with JWT_SECRET: set JWT_SECRET_PREVIOUS to its current value and JWT_SECRET to a new one",
                    ));
                }
                let keyring = self.keyring()?;
                let new_key = NewKey::new(&keyring);
                let rotate = |conn: &mut Conn| match keys::same_settings(conn, &keyring)? {
                    Ok(()) => keys::rotate(conn, &keyring, new_key, at_once, now).map(Ok),
                    Err(mismatch) => Ok(Err(mismatch)),
                };
                let made = self.change(|conn| keys::audited(conn, Actor::OPERATOR, now, rotate))?;
                let row = made.map_err(Exit::config)?;
                let state = if row.signs_from > now { KeyState::Pending } else { KeyState::Active };
                self.out.print_changed(&value(&row, state), &line(&row, state, now))
            }
            KeyCommand::Retire { kid, lost } => {
                let keyring = self.keyring()?;
                let new_key = NewKey::new(&keyring);
                let fits = if lost { keys::same_algorithm } else { keys::same_settings };
                let retire = |conn: &mut Conn| match fits(conn, &keyring)? {
                    Ok(()) => keys::retire(conn, &keyring, new_key, &kid, now).map(Ok),
                    Err(mismatch) => Ok(Err(mismatch)),
                };
                let retired = self.change(|conn| keys::audited(conn, Actor::OPERATOR, now, retire))?;
                if retired.map_err(Exit::config)? {
                    self.out.print_changed(&json!({ "kid": kid, "retired": true }), &format!("{kid} is retired"))
                } else {
                    Err(Exit::usage(format!("there is no key {kid:?}; see: gatebird key list")))
                }
            }
            KeyCommand::ReplaceAll if self.config.jwt_secret_previous.is_some() => Err(Exit::config(
                "JWT_SECRET_PREVIOUS is set: tokens signed with it would still be accepted; remove it",
            )),
            KeyCommand::ReplaceAll => {
                self.renew_epoch("keys replaced")?;
                self.out.print_changed(
                    &json!({ "renewed": true }),
                    "all keys are replaced, and every earlier token is revoked; start the servers with the same JWT_SECRET",
                )
            }
        }
    }

    /// Prints the public keys that verifiers need.
    fn print_pem(&self, rows: &[(&SigningKey, KeyState)]) -> Result<(), Exit> {
        let keyring = self.keyring()?;
        let mut needed: Vec<_> = rows.iter().filter(|(_, state)| *state != KeyState::Expired).collect();
        needed.sort_by_key(|(_, state)| *state != KeyState::Active);
        let pem = |(row, state): &&(&SigningKey, KeyState)| {
            let opened = keyring.seal().open(&row.kid, &row.sealed);
            let key = opened.and_then(|opened| Key::load(row.algorithm, &opened.private));
            let pem = key.and_then(|key| key.public_pem());
            let pem = pem.ok_or_else(|| Exit::config(format!("JWT_SECRET does not open the key {}", row.kid)))?;
            let mut shown = value(row, *state);
            shown["pem"] = pem.as_str().into();
            Ok((shown, pem))
        };
        let (values, pems): (Vec<Value>, Vec<String>) =
            needed.iter().map(pem).collect::<Result<Vec<_>, Exit>>()?.into_iter().unzip();
        if pems.is_empty() {
            Err(Exit::usage("there is no public key: HS256 signs with JWT_SECRET; set JWT_ALGORITHM=ES256"))
        } else {
            self.out.print(&json!(values), pems.concat().trim_end())
        }
    }

    /// Begins a new epoch, which revokes every earlier token.
    pub(super) fn renew_epoch(&self, cause: &str) -> Result<(), Exit> {
        let keyring = self.keyring()?;
        let renew =
            |conn: &mut Conn| keys::renew_epoch(conn, &keyring, (Actor::OPERATOR, cause), None, app::system_time());
        self.change(renew).map(drop)
    }

    pub(super) fn keyring(&self) -> Result<Keyring, Exit> {
        let epoch = self.read(|conn| Ok(revision::counter(conn)?.epoch))?;
        Ok(Keyring::new(&root_secret(&self.config)?, &self.config, epoch))
    }
}

fn value(row: &SigningKey, state: KeyState) -> Value {
    let (word, until) = match state {
        KeyState::Pending => ("next", None),
        KeyState::Active => ("signing", None),
        KeyState::Retiring { until } => ("verifying", Some(until)),
        KeyState::Expired => ("over", None),
    };
    json!({
        "kid": row.kid,
        "algorithm": row.algorithm.name(),
        "phase": word,
        "createdAt": row.created_at,
        "signsFrom": row.signs_from,
        "verifiesUntil": until,
    })
}

fn line(row: &SigningKey, state: KeyState, now: i64) -> String {
    let does = match state {
        KeyState::Pending => format!("signs in {} s", row.signs_from - now),
        KeyState::Active => "signs".to_owned(),
        KeyState::Retiring { until } => format!("verifies for {} s more", until - now),
        KeyState::Expired => "is over".to_owned(),
    };
    format!("{} {:<5} {does}", row.kid, row.algorithm.name())
}
