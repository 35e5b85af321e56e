//! The tables as Diesel sees them. Written by hand; `tests/it/schema.rs` compares both migration trees with it.
#![allow(missing_docs, unreachable_pub)]

diesel::table! {
    revision (id) {
        id -> BigInt,
        value -> BigInt,
        forgotten -> BigInt,
        epoch -> Binary,
    }
}

diesel::table! {
    revision_stamps (revision) {
        revision -> BigInt,
        stamp -> BigInt,
    }
}

diesel::table! {
    users (id) {
        id -> BigInt,
        username -> Text,
        username_key -> Text,
        nick -> Text,
        password_hash -> Text,
        generation -> BigInt,
        suspended -> Bool,
        ended -> Bool,
        created_at -> BigInt,
        revision -> BigInt,
    }
}

diesel::table! {
    domains (id) {
        id -> Text,
        user_id -> BigInt,
        number -> BigInt,
        host -> Text,
        plan -> Text,
        scopes -> Nullable<Text>,
        audiences -> Nullable<Text>,
        jwks -> Nullable<Text>,
        jwks_since -> Nullable<BigInt>,
        verified_at -> Nullable<BigInt>,
        superseded -> Bool,
        generation -> BigInt,
        suspended -> Bool,
        dormant -> Bool,
        active_at -> Nullable<BigInt>,
        created_at -> BigInt,
        revision -> BigInt,
    }
}

diesel::table! {
    secrets (id) {
        id -> BigInt,
        domain_id -> Text,
        digest -> Binary,
        hint -> Text,
        expires_at -> Nullable<BigInt>,
        dormant -> Bool,
        created_at -> BigInt,
        created_by -> Nullable<Text>,
        created_from -> Nullable<Text>,
        revision -> BigInt,
    }
}

diesel::table! {
    signing_keys (kid) {
        kid -> Text,
        algorithm -> Text,
        sealed -> Binary,
        created_at -> BigInt,
        signs_from -> BigInt,
        signs_until -> Nullable<BigInt>,
        revision -> BigInt,
    }
}

diesel::table! {
    revocations (jti) {
        jti -> Binary,
        expires_at -> BigInt,
        revision -> BigInt,
    }
}

diesel::table! {
    used_assertions (fingerprint) {
        fingerprint -> Binary,
        tenant -> BigInt,
        expires_at -> BigInt,
        revision -> BigInt,
    }
}

diesel::table! {
    tombstones (revision) {
        revision -> BigInt,
        user_id -> Nullable<BigInt>,
        domain_id -> Nullable<Text>,
        secret_digest -> Nullable<Binary>,
        kid -> Nullable<Text>,
        buried_at -> BigInt,
    }
}

diesel::table! {
    known_networks (user_id, network) {
        user_id -> BigInt,
        network -> Text,
        seen_at -> BigInt,
    }
}

diesel::table! {
    removals (user_id) {
        user_id -> BigInt,
        ended_at -> BigInt,
    }
}

diesel::table! {
    deleted_domains (domain_id) {
        domain_id -> Text,
    }
}

diesel::table! {
    challenges (user_id, host) {
        user_id -> BigInt,
        host -> Text,
        token -> Text,
        expires_at -> BigInt,
    }
}

diesel::table! {
    verified_hosts (domain_id) {
        domain_id -> Text,
        method -> Text,
        token -> Text,
        checked_at -> BigInt,
        failing_since -> Nullable<BigInt>,
    }
}

diesel::table! {
    supersedings (host) {
        host -> Text,
    }
}

diesel::table! {
    secret_uses (secret_id) {
        secret_id -> BigInt,
        used_at -> BigInt,
        used_from -> Nullable<Text>,
        leaked_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    usage (domain_id, day, kind) {
        domain_id -> Text,
        day -> BigInt,
        kind -> Text,
        count -> BigInt,
    }
}

diesel::table! {
    audit (id) {
        id -> BigInt,
        at -> BigInt,
        actor -> Text,
        address -> Nullable<Text>,
        tenant -> Nullable<BigInt>,
        action -> Text,
        target -> Text,
        detail -> Nullable<Text>,
        hash -> Binary,
    }
}

diesel::table! {
    audit_head (id) {
        id -> BigInt,
        last -> BigInt,
        hash -> Binary,
    }
}

diesel::table! {
    audit_archive (id) {
        id -> BigInt,
        last -> BigInt,
        hash -> Binary,
    }
}

diesel::table! {
    trusted_time (id) {
        id -> BigInt,
        at -> BigInt,
    }
}

diesel::table! {
    imports (source, number) {
        source -> Text,
        number -> Text,
        target -> Text,
    }
}

diesel::table! {
    posts (id) {
        id -> BigInt,
        user_id -> BigInt,
        content -> Text,
        img -> Nullable<Text>,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    post_hashtags (user_id, title, post_id) {
        user_id -> BigInt,
        title -> Text,
        post_id -> BigInt,
    }
}

diesel::joinable!(domains -> users (user_id));
diesel::joinable!(secrets -> domains (domain_id));
diesel::joinable!(known_networks -> users (user_id));
diesel::joinable!(challenges -> users (user_id));
diesel::joinable!(verified_hosts -> domains (domain_id));
diesel::joinable!(secret_uses -> secrets (secret_id));
diesel::joinable!(posts -> users (user_id));
diesel::joinable!(post_hashtags -> posts (post_id));

diesel::allow_tables_to_appear_in_same_query!(
    revision,
    revision_stamps,
    users,
    domains,
    secrets,
    signing_keys,
    revocations,
    used_assertions,
    tombstones,
    known_networks,
    removals,
    deleted_domains,
    challenges,
    verified_hosts,
    supersedings,
    secret_uses,
    usage,
    audit,
    audit_head,
    audit_archive,
    trusted_time,
    imports,
    posts,
    post_hashtags,
);
