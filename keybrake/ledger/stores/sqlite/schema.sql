-- Money is integer micro-USD; times are integer microseconds since 1970 in UTC.
-- STRICT refuses text and fractions in integer columns; the CHECKs refuse impossible values.

CREATE TABLE ledger (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    uid TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- The newest event that is counted in the table total.
    folded INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The events in order. Every change of a counter, a scope or a call's state has one. A hash chains
-- each event to the one before it (see event_chain.py), so an edit is detected.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    -- Ledger time: the wall clock, but never earlier than the previous event.
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    -- The event is about this call or this scope; one about the ledger itself has neither.
    call INTEGER,
    scope INTEGER,
    -- The changes of the reserved and the spent amount.
    reserved INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    detail TEXT,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TRIGGER event_stays BEFORE DELETE ON event
BEGIN
    SELECT raise(ABORT, 'an event is never deleted from the ledger');
END;

CREATE TRIGGER event_is_final BEFORE UPDATE ON event
BEGIN
    SELECT raise(ABORT, 'an event never changes');
END;

-- A call is charged to scopes: a run, or a tool within a run. A scope's counters are running totals,
-- so a decision takes no longer after a million calls.
CREATE TABLE scope (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('run', 'tool')),
    label TEXT NOT NULL CHECK (label <> ''),
    parent INTEGER REFERENCES scope (id),
    key_hash BLOB UNIQUE CHECK (length(key_hash) = 32),
    mode TEXT NOT NULL CHECK (mode IN ('enforce', 'report')),
    terms TEXT NOT NULL,
    cap INTEGER CHECK (cap >= 0),
    max_calls INTEGER CHECK (max_calls >= 0),
    opened_at INTEGER NOT NULL,
    expires_at INTEGER,
    closed_at INTEGER,
    revoked_at INTEGER,
    paused_at INTEGER,
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    calls INTEGER NOT NULL DEFAULT 0,
    refused INTEGER NOT NULL DEFAULT 0
) STRICT;

-- One tool of a run is one scope, however many processes call it.
CREATE UNIQUE INDEX scope_tool ON scope (parent, label) WHERE kind = 'tool';

-- The counters of one limit of a scope in one time window. A new window gets a new row and no row is
-- ever reset, so neither a clock change nor a crash can reset the count of a current window.
CREATE TABLE bucket (
    scope INTEGER NOT NULL,
    rule INTEGER NOT NULL,
    at INTEGER NOT NULL,
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    calls INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (scope, rule, at)
) STRICT, WITHOUT ROWID;

-- The call log: one row per call, never deleted.
CREATE TABLE call (
    seq INTEGER PRIMARY KEY,
    uid TEXT NOT NULL,
    at INTEGER NOT NULL,
    run INTEGER REFERENCES scope (id),
    tool TEXT,
    -- JSON lists: the scopes and buckets that the call is charged to. Any process can end the call.
    scopes TEXT NOT NULL,
    buckets TEXT,
    vendor TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    -- Host, account, fingerprint of the credential, parameters: reconcile needs them to ask the vendor
    -- about this call. The request is deleted once the outcome is known.
    origin TEXT NOT NULL,
    account TEXT NOT NULL,
    owner TEXT NOT NULL,
    request TEXT,
    -- The token of the process that admitted it: see owners.py.
    process TEXT,
    -- OR, with frequent states first: for IN with more than two values SQLite builds a sorted list
    -- for every row.
    state TEXT NOT NULL CHECK (
        state = 'reserved' OR state = 'settled' OR state = 'refused' OR state = 'voided'
        OR state = 'unknown' OR state = 'unguarded'
    ),
    reason TEXT,
    reserved INTEGER NOT NULL CHECK (reserved >= 0),
    cost INTEGER CHECK (cost >= 0),
    amount INTEGER,
    currency TEXT,
    usd_per_unit TEXT,
    -- The caller's idempotency key, and the earlier call under the same key that already reserves or
    -- costs the amount of this call (or a part of it).
    idempotency_key TEXT,
    leans_on INTEGER REFERENCES call (seq),
    meter TEXT,
    contingent INTEGER CHECK (contingent >= 0),
    recurring INTEGER NOT NULL DEFAULT 0,
    -- The position that the call changed, and the call that changed it before. Money that is given
    -- back follows this chain, newest call first.
    position TEXT,
    prior INTEGER,
    object_id TEXT,
    http_status INTEGER,
    ended_at INTEGER,
    would_refuse TEXT,
    -- The proof or the person's word that resolved an unknown outcome.
    evidence TEXT
) STRICT;

CREATE INDEX call_run ON call (run, seq);
CREATE INDEX call_key ON call (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX call_leans_on ON call (leans_on) WHERE leans_on IS NOT NULL;
CREATE INDEX call_unknown ON call (seq) WHERE state = 'unknown';
-- Writes that reserve nothing, such as the confirmation of an intent that is already counted. A search
-- by scope.reserved would miss them.
CREATE INDEX call_weightless ON call (seq)
WHERE state = 'reserved' AND reserved = 0 AND position IS NOT NULL;

-- One economic event at the vendor, counted once however many calls touch it. Only the answer to its
-- newest write may lower its value, and only while no other write is open: a late answer describes an
-- old state. last_write is the newest admitted call that writes to it, open_writes the number of such
-- calls that have not ended.
CREATE TABLE position (
    key TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    value INTEGER NOT NULL CHECK (value >= 0),
    currency TEXT,
    usd_per_unit TEXT,
    last_call INTEGER NOT NULL REFERENCES call (seq),
    last_write INTEGER NOT NULL REFERENCES call (seq),
    open_writes INTEGER NOT NULL DEFAULT 0 CHECK (open_writes >= 0)
) STRICT, WITHOUT ROWID;

CREATE INDEX position_estimated ON position (last_call) WHERE state = 'estimated';

-- The objects at the vendor on which the price of an open call depends: see stakes.py. Role "prices":
-- the call was priced by a look-up of the object. Role "raises": the call can raise the object's price.
-- An object never has open rows of both roles from different calls. When the call ends, a "prices" row
-- is deleted. A "raises" row keeps the number of the end event until the next such call: a look-up that
-- began before that event may have missed the change.
CREATE TABLE stake (
    object TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role = 'prices' OR role = 'raises'),
    call INTEGER NOT NULL,
    ended INTEGER,
    PRIMARY KEY (object, role, call)
) STRICT, WITHOUT ROWID;

CREATE INDEX stake_open ON stake (call) WHERE ended IS NULL;

-- Totals per day and endpoint of the events up to ledger.folded. To sum up a million calls would take a
-- second, and to update a total with each call would write two more pages per call.
CREATE TABLE total (
    day INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    spent INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    PRIMARY KEY (day, endpoint)
) STRICT, WITHOUT ROWID;

-- The time of the newest event.
CREATE VIEW ledger_time AS
SELECT coalesce((SELECT at FROM event ORDER BY seq DESC LIMIT 1), 0) AS newest;

-- The events that are not yet in the table total.
CREATE VIEW unfolded AS
SELECT
    event.seq AS seq,
    call.at / 86400000000 AS day,
    call.endpoint AS endpoint,
    event.spent AS spent,
    event.reserved AS reserved,
    event.kind IN ('admitted', 'noted') AS calls,
    event.kind = 'refused' AS refused
FROM event JOIN call ON call.seq = event.call
WHERE event.seq > (SELECT folded FROM ledger);

CREATE VIEW totals AS
SELECT day, endpoint, spent, reserved, calls, refused FROM total
UNION ALL
SELECT day, endpoint, spent, reserved, calls, refused FROM unfolded;

-- A second line of defence that binds every program: no row is deleted, and a call ends once.
CREATE TRIGGER call_stays BEFORE DELETE ON call
BEGIN
    SELECT raise(ABORT, 'a call is never deleted from the ledger');
END;

CREATE TRIGGER call_ends_once BEFORE UPDATE OF state ON call
WHEN NOT (
    (NEW.state = 'settled' OR NEW.state = 'voided' OR (NEW.state = 'unknown' AND OLD.state = 'reserved'))
    AND OLD.state IN ('reserved', 'unknown')
)
BEGIN
    SELECT raise(ABORT, 'a call that has ended cannot change its state');
END;

-- The documented views. Their columns stay the same across versions; the tables may change.
CREATE VIEW call_log AS
SELECT
    call.seq AS seq,
    strftime('%Y-%m-%dT%H:%M:%S', call.at / 1000000, 'unixepoch')
        || printf('.%06dZ', call.at % 1000000) AS at,
    scope.uid AS run_id,
    scope.label AS label,
    call.tool AS tool,
    call.vendor AS vendor,
    call.endpoint AS endpoint,
    call.method AS method,
    call.path AS path,
    call.state AS state,
    call.reason AS reason,
    call.reserved AS reserved_micros,
    call.cost AS cost_micros,
    call.amount AS amount,
    call.currency AS currency,
    call.object_id AS object_id,
    call.http_status AS http_status,
    (call.ended_at - call.at) / 1000 AS duration_ms,
    call.would_refuse AS would_refuse,
    call.meter AS meter,
    call.contingent AS contingent_micros,
    call.recurring AS recurring,
    call.evidence AS evidence
FROM call LEFT JOIN scope ON scope.id = call.run;

CREATE VIEW spend_by_run AS
SELECT
    uid AS run_id,
    label AS label,
    spent / 1000000.0 AS spent_usd,
    reserved / 1000000.0 AS reserved_usd,
    cap / 1000000.0 AS cap_usd,
    spent AS spent_micros,
    reserved AS reserved_micros,
    calls AS calls,
    refused AS refused
FROM scope WHERE kind = 'run' ORDER BY id;

CREATE VIEW spend_by_endpoint AS
SELECT
    endpoint AS endpoint,
    sum(spent) / 1000000.0 AS spent_usd,
    sum(spent) AS spent_micros,
    sum(reserved) AS reserved_micros,
    sum(calls) AS calls,
    sum(refused) AS refused
FROM totals GROUP BY endpoint;

CREATE VIEW spend_by_day AS
SELECT
    strftime('%Y-%m-%d', day * 86400, 'unixepoch') AS day,
    sum(spent) / 1000000.0 AS spent_usd,
    sum(spent) AS spent_micros,
    sum(reserved) AS reserved_micros,
    sum(calls) AS calls,
    sum(refused) AS refused
FROM totals GROUP BY totals.day;

CREATE VIEW spend_by_tool AS
SELECT
    run.uid AS run_id,
    run.label AS label,
    tool.label AS tool,
    tool.spent / 1000000.0 AS spent_usd,
    tool.spent AS spent_micros,
    tool.reserved AS reserved_micros,
    tool.calls AS calls,
    tool.refused AS refused
FROM scope AS tool JOIN scope AS run ON run.id = tool.parent
WHERE tool.kind = 'tool' ORDER BY tool.id;
