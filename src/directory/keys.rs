//! Changes of the signing keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Directory;
use crate::db::signing_key::SigningKey;
use crate::token::keyring::{Key, Keyring, StoredKey};

/// The latest state of each signing key that changed; `None` if it was deleted.
pub(super) type KeyChanges = BTreeMap<String, Option<SigningKey>>;

impl Directory {
    /// Applies changes of keys together, so that some key signs at any moment.
    pub(super) fn change_keys(&self, changes: KeyChanges) {
        if changes.is_empty() {
            return;
        }
        let keyring = self.keyring.load();
        let (mut put, mut gone) = (Vec::new(), Vec::new());
        for (kid, row) in changes {
            let Some(row) = row else {
                gone.push(kid);
                continue;
            };
            match keyring.stored(&kid).or_else(|| open(&keyring, &row)) {
                Some(key) => put.push(StoredKey { key, times: row.times() }),
                None => log::error!("cannot open the signing key {kid} with this node's JWT_SECRET"),
            }
        }
        self.keyring.store(Arc::new(keyring.changed(put, &gone)));
    }
}

fn open(keyring: &Keyring, row: &SigningKey) -> Option<Arc<Key>> {
    let opened = keyring.seal().open(&row.kid, &row.sealed)?;
    Key::load(row.algorithm, &opened.private).filter(|key| key.kid() == row.kid).map(Arc::new)
}
