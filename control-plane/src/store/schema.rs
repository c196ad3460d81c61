//! The tables, as both databases have them: `migrations/` makes them, `queries/` asks them.

diesel::table! {
    revision (id) {
        id -> BigInt,
        epoch -> BigInt,
        number -> BigInt,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    users (id) {
        id -> BigInt,
        name -> Text,
        name_key -> Text,
        email -> Text,
        password_hash -> Text,
        role -> Text,
        is_active -> Bool,
        must_change_password -> Bool,
        password_changed_at -> Timestamp,
        last_login_at -> Nullable<Timestamp>,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    refresh_tokens (id) {
        id -> Text,
        family -> Text,
        user_id -> BigInt,
        sha256 -> Text,
        issued_at -> Timestamp,
        expires_at -> Timestamp,
        used_at -> Nullable<Timestamp>,
        revoked_at -> Nullable<Timestamp>,
        user_agent -> Text,
        address -> Text,
        family_ends_at -> Timestamp,
    }
}

diesel::table! {
    sessions (id) {
        id -> Text,
        user_id -> BigInt,
        created_at -> Timestamp,
        last_seen_at -> Timestamp,
        expires_at -> Timestamp,
        user_agent -> Text,
        address -> Text,
    }
}

diesel::table! {
    personal_tokens (id) {
        id -> BigInt,
        user_id -> BigInt,
        name -> Text,
        sha256 -> Text,
        role -> Text,
        expires_at -> Nullable<Timestamp>,
        last_used_at -> Nullable<Timestamp>,
        created_at -> Timestamp,
    }
}

diesel::table! {
    signing_keys (kid) {
        kid -> Text,
        secret -> Text,
        created_at -> Timestamp,
        retired_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    nodes (id) {
        id -> BigInt,
        name -> Text,
        name_key -> Text,
        slug -> Text,
        url -> Text,
        address -> Text,
        port -> Integer,
        weight -> Integer,
        slots -> Integer,
        labels -> Json,
        enabled -> Bool,
        draining -> Bool,
        models_include -> Json,
        models_exclude -> Json,
        tls_ca -> Nullable<Text>,
        tls_server_name -> Nullable<Text>,
        tls_insecure -> Bool,
        bearer_token -> Nullable<Text>,
        headers -> Json,
        discover -> Text,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    api_keys (id) {
        id -> BigInt,
        key_id -> Text,
        note -> Text,
        sha256 -> Text,
        scopes -> Json,
        models -> Json,
        rate -> Nullable<Text>,
        burst -> Nullable<Integer>,
        max_concurrent -> Nullable<Integer>,
        expires_at -> Nullable<Timestamp>,
        user_header -> Nullable<Text>,
        enabled -> Bool,
        created_by -> Text,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    settings (key) {
        key -> Text,
        value -> Json,
        version -> BigInt,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    audit (id) {
        id -> BigInt,
        at -> Timestamp,
        actor_id -> Nullable<BigInt>,
        actor -> Text,
        address -> Text,
        action -> Text,
        kind -> Text,
        object_id -> Text,
        object_name -> Text,
        before -> Nullable<Json>,
        after -> Nullable<Json>,
    }
}

diesel::table! {
    usage (hour, key_id, model, node) {
        hour -> Timestamp,
        key_id -> Text,
        model -> Text,
        node -> Text,
        requests -> BigInt,
        prompt_tokens -> BigInt,
        output_tokens -> BigInt,
    }
}

diesel::table! {
    usage_batches (id) {
        id -> Text,
        instance -> Text,
        received_at -> Timestamp,
    }
}

diesel::table! {
    jobs (id) {
        id -> BigInt,
        kind -> Text,
        state -> Text,
        model -> Text,
        insecure -> Bool,
        node_ids -> Json,
        progress -> Json,
        error -> Nullable<Text>,
        requested_by -> Text,
        cancel_requested -> Bool,
        worker -> Nullable<Text>,
        lease_until -> Nullable<Timestamp>,
        version -> BigInt,
        created_at -> Timestamp,
        started_at -> Nullable<Timestamp>,
        finished_at -> Nullable<Timestamp>,
    }
}

diesel::joinable!(sessions -> users (user_id));
diesel::joinable!(personal_tokens -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(sessions, users, personal_tokens);
