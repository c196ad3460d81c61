-- AUTOINCREMENT: an id that was once given away never comes back.
-- Instants are UTC as text. Names of unique columns are read by store/error.rs.

-- The revision of the fleet document. Its row is also the lock that orders changes. The epoch begins at
-- the clock's seconds, so that a database made anew is newer than what data planes kept of the old one.
CREATE TABLE revision (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
INSERT INTO revision (id, epoch, number, updated_at)
VALUES (1, CAST(strftime('%s', 'now') AS INTEGER), 0, strftime('%Y-%m-%d %H:%M:%f', 'now'));

CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL DEFAULT '',
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
    is_active BOOLEAN NOT NULL,
    must_change_password BOOLEAN NOT NULL,
    password_changed_at TIMESTAMP NOT NULL,
    last_login_at TIMESTAMP,
    version BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);

CREATE TABLE refresh_tokens (
    id TEXT PRIMARY KEY NOT NULL,
    family TEXT NOT NULL,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    sha256 TEXT NOT NULL UNIQUE,
    issued_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    used_at TIMESTAMP,
    revoked_at TIMESTAMP,
    user_agent TEXT NOT NULL DEFAULT '',
    address TEXT NOT NULL DEFAULT ''
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_expires ON refresh_tokens (expires_at);

CREATE TABLE sessions (
    id TEXT PRIMARY KEY NOT NULL,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    csrf TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    last_seen_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    user_agent TEXT NOT NULL DEFAULT '',
    address TEXT NOT NULL DEFAULT ''
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expires ON sessions (expires_at);

CREATE TABLE personal_tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
    expires_at TIMESTAMP,
    last_used_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL,
    CONSTRAINT personal_tokens_name_unique UNIQUE (user_id, name)
);

CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY NOT NULL,
    secret TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    retired_at TIMESTAMP
);

CREATE TABLE nodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    name_key TEXT NOT NULL,
    slug TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    address TEXT NOT NULL,
    port INTEGER NOT NULL,
    weight INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    labels JSON NOT NULL,
    enabled BOOLEAN NOT NULL,
    draining BOOLEAN NOT NULL,
    models_include JSON NOT NULL,
    models_exclude JSON NOT NULL,
    tls_ca TEXT,
    tls_server_name TEXT,
    tls_insecure BOOLEAN NOT NULL,
    bearer_token TEXT,
    headers JSON NOT NULL,
    discover TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);

CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    key_id TEXT NOT NULL UNIQUE,
    note TEXT NOT NULL DEFAULT '',
    sha256 TEXT NOT NULL UNIQUE,
    scopes JSON NOT NULL,
    models JSON NOT NULL,
    rate TEXT,
    burst INTEGER,
    max_concurrent INTEGER,
    expires_at TIMESTAMP,
    user_header TEXT,
    enabled BOOLEAN NOT NULL,
    created_by TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);

CREATE TABLE settings (
    key TEXT PRIMARY KEY NOT NULL,
    value JSON NOT NULL,
    version BIGINT NOT NULL,
    updated_at TIMESTAMP NOT NULL
);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    at TIMESTAMP NOT NULL,
    actor_id BIGINT,
    actor TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    object_id TEXT NOT NULL,
    object_name TEXT NOT NULL,
    before JSON,
    after JSON
);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_object ON audit (kind, object_id);

CREATE TABLE usage (
    hour TIMESTAMP NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    node TEXT NOT NULL,
    requests BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    PRIMARY KEY (hour, key_id, model, node)
);

CREATE TABLE usage_batches (
    id TEXT PRIMARY KEY NOT NULL,
    instance TEXT NOT NULL,
    received_at TIMESTAMP NOT NULL
);
CREATE INDEX usage_batches_received ON usage_batches (received_at);

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    model TEXT NOT NULL,
    insecure BOOLEAN NOT NULL,
    node_ids JSON NOT NULL,
    progress JSON NOT NULL,
    error TEXT,
    requested_by TEXT NOT NULL,
    cancel_requested BOOLEAN NOT NULL,
    worker TEXT,
    lease_until TIMESTAMP,
    version BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    started_at TIMESTAMP,
    finished_at TIMESTAMP
);
CREATE INDEX jobs_state ON jobs (state, id);
