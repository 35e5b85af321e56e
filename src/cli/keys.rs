//! The operator's commands for stored signing keys.

use clap::Subcommand;
use serde_json::{Value, json};

use super::operator::Operator;
use crate::actions::keys;
use crate::app::keys::{NewKey, renew_epoch};
use crate::app::{self, root_secret};
use crate::config::Algorithm;
use crate::db::audit::Actor;
use crate::db::revision;
use crate::db::signing_key::SigningKey;
use crate::exit::Exit;
use crate::token::Kind;
use crate::token::keyring::{Key, KeyState, Keyring};

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
        let by = self.by();
        match command {
            KeyCommand::List { pem } => {
                let keys = self.read(|conn| keys::list(conn, Kind::max_ttl(&self.config), by.now))?;
                if pem {
                    return self.print_pem(keys, by.now);
                }
                let none = "no stored keys; HS256 signs with JWT_SECRET";
                self.out.print_list(&keys, |(row, state)| show(row, *state, by.now), none)
            }
            KeyCommand::Rotate { .. } if self.config.jwt_algorithm == Algorithm::Hs256 => Err(Exit::usage(
                "HS256 signs with JWT_SECRET: set JWT_SECRET_PREVIOUS to its current value and JWT_SECRET to a new one",
            )),
            KeyCommand::Rotate { now: at_once } => {
                let keyring = self.keyring()?;
                let new_key = NewKey::new(&keyring);
                let made = self.change(|conn| keys::rotate(conn, by, &keyring, new_key, at_once))?;
                let row = made.map_err(Exit::config)?;
                let state = if row.signs_from > by.now { KeyState::Pending } else { KeyState::Active };
                let (value, line) = show(&row, state, by.now);
                self.out.print_changed(&value, &line)
            }
            KeyCommand::Retire { kid, lost } => {
                let keyring = self.keyring()?;
                let new_key = NewKey::new(&keyring);
                let retired = self.change(|conn| keys::retire(conn, by, &keyring, new_key, (&kid, lost)))?;
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
    fn print_pem(&self, mut keys: Vec<(SigningKey, KeyState)>, now: i64) -> Result<(), Exit> {
        keys.retain(|(_, state)| *state != KeyState::Expired);
        keys.sort_by_key(|(_, state)| *state != KeyState::Active);
        let keyring = self.keyring()?;
        let pem = |row: &SigningKey| {
            let opened = keyring.seal().open(&row.kid, &row.sealed)?;
            Key::load(row.algorithm, &opened.private)?.public_pem()
        };
        let with_pem = |(row, state): &(SigningKey, KeyState)| {
            let pem = pem(row).ok_or_else(|| Exit::config(format!("JWT_SECRET does not open the key {}", row.kid)))?;
            let (mut value, _) = show(row, *state, now);
            value["pem"] = pem.as_str().into();
            Ok((value, pem.trim_end().to_owned()))
        };
        let keys = keys.iter().map(with_pem).collect::<Result<Vec<_>, Exit>>()?;
        if keys.is_empty() {
            return Err(Exit::usage("there is no public key: HS256 signs with JWT_SECRET; set JWT_ALGORITHM=ES256"));
        }
        self.out.print_list(&keys, Clone::clone, "")
    }

    /// Begins a new epoch, which revokes every earlier token.
    pub(super) fn renew_epoch(&self, cause: &str) -> Result<(), Exit> {
        let keyring = self.keyring()?;
        let cause = (Actor::OPERATOR, cause);
        self.change(|conn| renew_epoch(conn, &keyring, cause, None, app::system_time())).map(drop)
    }

    pub(super) fn keyring(&self) -> Result<Keyring, Exit> {
        let epoch = self.read(revision::counter)?.epoch;
        Ok(Keyring::new(&root_secret(&self.config)?, &self.config, epoch))
    }
}

fn show(row: &SigningKey, state: KeyState, now: i64) -> (Value, String) {
    let (phase, until, does) = match state {
        KeyState::Pending => ("next", None, format!("signs in {} s", row.signs_from - now)),
        KeyState::Active => ("signing", None, "signs".to_owned()),
        KeyState::Retiring { until } => ("verifying", Some(until), format!("verifies for {} s more", until - now)),
        KeyState::Expired => ("over", None, "is over".to_owned()),
    };
    let (kid, algorithm) = (&row.kid, row.algorithm.name());
    let value = json!({
        "kid": kid,
        "algorithm": algorithm,
        "phase": phase,
        "createdAt": row.created_at,
        "signsFrom": row.signs_from,
        "verifiesUntil": until,
    });
    (value, format!("{kid} {algorithm:<5} {does}"))
}
