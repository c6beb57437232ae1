-- The tables as the last program made them that did not number its versions.
PRAGMA user_version = 1;
CREATE TABLE task (
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    agent TEXT NOT NULL,
    billing_mode TEXT NOT NULL,
    session TEXT,
    idem TEXT,
    body_digest TEXT NOT NULL,
    parent TEXT,
    state TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    delivery TEXT NOT NULL,
    inc TEXT,
    lost_inc TEXT,
    last_n INTEGER NOT NULL,
    digest TEXT NOT NULL,
    outcome_digest TEXT,
    max_runtime FLOAT NOT NULL,
    deadline INTEGER,
    queue_until INTEGER,
    offer_until INTEGER,
    leased_at INTEGER,
    cancel_at INTEGER,
    force_at INTEGER,
    error TEXT,
    error_code TEXT,
    reason TEXT,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    ended INTEGER,
    due_at INTEGER,
    purge_at INTEGER,
    watchers TEXT,
    PRIMARY KEY (id)
)
 WITHOUT ROWID

;
CREATE INDEX task_queue ON task (agent, created, id) WHERE state = 'QUEUED';
CREATE UNIQUE INDEX task_key ON task (owner, agent, idem) WHERE idem IS NOT NULL;
CREATE INDEX task_purge ON task (purge_at) WHERE purge_at IS NOT NULL;
CREATE INDEX task_held ON task (inc) WHERE inc IS NOT NULL;
CREATE INDEX task_owner ON task (owner, id);
CREATE INDEX task_due ON task (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE task_input (
    task TEXT NOT NULL,
    start BLOB NOT NULL,
    PRIMARY KEY (task)
)
 WITHOUT ROWID

;
CREATE TABLE event (
    seq INTEGER NOT NULL,
    task TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    n INTEGER,
    body BLOB NOT NULL,
    PRIMARY KEY (seq)
);
CREATE INDEX event_task ON event (task);
CREATE TABLE instance (
    agent_id TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    owner TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    agent TEXT NOT NULL,
    billing_mode TEXT NOT NULL,
    state TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    connected_at INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    host TEXT,
    pid INTEGER,
    process_started TEXT,
    ended INTEGER,
    PRIMARY KEY (agent_id),
    UNIQUE (incarnation)
);
CREATE INDEX instance_name ON instance (owner, instance_id) WHERE ended IS NULL;
CREATE INDEX instance_alive ON instance (agent) WHERE ended IS NULL;
CREATE TABLE agent (
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    description TEXT NOT NULL,
    tags TEXT NOT NULL,
    card TEXT,
    card_ref TEXT,
    card_summary TEXT,
    billing_mode TEXT NOT NULL,
    listing TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    expected_instances INTEGER NOT NULL,
    max_pending_backlog INTEGER NOT NULL,
    max_running_time_sec INTEGER NOT NULL,
    delivery TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE api_key (
    hash TEXT NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    revoked BOOLEAN NOT NULL,
    PRIMARY KEY (hash)
);
CREATE TABLE refresh_token (
    hash TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    expires INTEGER NOT NULL,
    created INTEGER NOT NULL,
    used BOOLEAN NOT NULL,
    PRIMARY KEY (hash)
);
CREATE INDEX refresh_token_expires ON refresh_token (expires);
CREATE TABLE file (
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    role TEXT NOT NULL,
    agent TEXT,
    task TEXT,
    name TEXT,
    mime TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT,
    state TEXT NOT NULL,
    upload TEXT,
    upload_until INTEGER,
    created INTEGER NOT NULL,
    purge_at INTEGER,
    PRIMARY KEY (id)
)
 WITHOUT ROWID

;
CREATE INDEX file_purge ON file (purge_at) WHERE purge_at IS NOT NULL;
CREATE UNIQUE INDEX file_upload ON file (upload) WHERE upload IS NOT NULL;
CREATE TABLE file_use (
    task TEXT NOT NULL,
    file TEXT NOT NULL,
    PRIMARY KEY (task, file)
)
 WITHOUT ROWID

;
CREATE INDEX file_use_file ON file_use (file);
CREATE TABLE meta (
    "key" TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY ("key")
);
CREATE TABLE purge (
    id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    count INTEGER NOT NULL,
    oldest INTEGER NOT NULL,
    rule TEXT NOT NULL,
    PRIMARY KEY (id)
);
