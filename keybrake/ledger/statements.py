"""The SQL statements of the ledger, in the order in which a call needs them."""

NEWEST = "SELECT newest FROM ledger_time"
NEWEST_EVENT = "SELECT seq FROM event ORDER BY seq DESC LIMIT 1"

SELECT_RUNS = """
SELECT scope.id, scope.uid, scope.label, owner.uid, scope.mode, scope.opened_at, scope.expires_at,
    scope.closed_at, scope.revoked_at, scope.paused_at, scope.cap, scope.spent, scope.reserved,
    scope.calls, scope.refused, (SELECT newest FROM ledger_time)
FROM scope
LEFT JOIN scope AS above ON above.id = scope.parent
LEFT JOIN scope AS owner ON owner.id = CASE above.kind WHEN 'tool' THEN above.parent ELSE above.id END
"""

INSERT_SCOPE = """
INSERT INTO scope (uid, kind, label, parent, key_hash, mode, terms, cap, max_calls, opened_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

SELECT_TOOL = "SELECT id, terms FROM scope WHERE kind = 'tool' AND parent = ? AND label = ?"

SELECT_OWNER = "SELECT uid, mode FROM scope WHERE id = ?"

SELECT_CHAIN = """
WITH RECURSIVE up (id, parent) AS (
    SELECT id, parent FROM scope WHERE id = ?
    UNION ALL
    SELECT scope.id, scope.parent FROM scope JOIN up ON scope.id = up.parent
)
SELECT id FROM up
"""

CLOSE_RUN = "UPDATE scope SET closed_at = ? WHERE id = ? AND closed_at IS NULL"
REVOKE_RUN = "UPDATE scope SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
PAUSE_RUN = "UPDATE scope SET paused_at = ? WHERE id = ? AND paused_at IS NULL"
RESUME_RUN = "UPDATE scope SET paused_at = NULL WHERE id = ? AND paused_at IS NOT NULL"

SELECT_STANDING = """
SELECT id, uid, kind, label, mode, terms, opened_at, expires_at, closed_at, revoked_at, paused_at,
    spent, reserved, calls, parent
FROM scope WHERE id = ?
"""

SUM_BUCKETS = """
SELECT coalesce(sum(spent), 0), coalesce(sum(reserved), 0), coalesce(sum(calls), 0)
FROM bucket WHERE scope = ? AND rule = ? AND at >= ?
"""

# The statement repeats the cap of decide(), so that no bug in a decision can write past it. In report
# mode (the third value) caps do not bind, but revoke, close and pause do.
RESERVE = """
UPDATE scope SET reserved = reserved + ?, calls = calls + 1
WHERE id = ? AND revoked_at IS NULL AND closed_at IS NULL AND paused_at IS NULL
    AND (? OR ((? = 0 OR cap IS NULL OR spent + reserved + ? <= cap)
        AND (max_calls IS NULL OR calls < max_calls)))
"""

RESERVE_BUCKET = """
INSERT INTO bucket (scope, rule, at, reserved, calls) VALUES (?, ?, ?, ?, 1)
ON CONFLICT DO UPDATE SET reserved = reserved + excluded.reserved, calls = calls + 1
WHERE excluded.reserved = 0 OR ? IS NULL OR spent + reserved + excluded.reserved <= ?
"""

INSERT_CALL = """
INSERT INTO call (uid, at, run, tool, scopes, vendor, endpoint, method, path, origin, account, owner,
    request, state, reason, reserved, amount, currency, usd_per_unit, idempotency_key, meter, contingent,
    recurring, buckets, would_refuse, position, leans_on, process)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

# Earlier attempts with the same idempotency key, with the amount that is counted for each.
SELECT_EARLIER_ATTEMPTS = """
SELECT seq, state, scopes,
    CASE state WHEN 'unknown' THEN reserved ELSE coalesce(cost, 0) END AS counted
FROM call
WHERE idempotency_key = ? AND vendor = ? AND owner = ? AND account = ? AND method = ? AND path = ?
    AND at > ? AND state IN ('unknown', 'settled')
ORDER BY counted DESC LIMIT 100
"""

COUNT_REFUSAL = "UPDATE scope SET refused = refused + 1 WHERE id = ?"

MARK_UNKNOWN = """
UPDATE call SET state = 'unknown', reason = ?, object_id = ?, http_status = ?, ended_at = max(at, ?)
WHERE seq = ? AND state = 'reserved'
"""

# The columns from position on are in the order of event_chain.END_FACTS. A reserved call has none of
# the new facts yet, so END_RESERVED sets them without coalesce() and RETURNING, which would double its
# time.
END_RESERVED = """
UPDATE call SET state = ?, cost = ?, reason = ?, position = ?, prior = ?, object_id = ?, http_status = ?,
    contingent = ?, ended_at = ?, evidence = ?, request = NULL
WHERE seq = ? AND state = 'reserved'
"""
END_UNKNOWN = """
UPDATE call SET state = ?, cost = ?, reason = coalesce(?, reason), position = coalesce(?, position), prior = ?,
    object_id = coalesce(?, object_id), http_status = coalesce(?, http_status),
    contingent = coalesce(?, contingent), ended_at = max(at, ?), evidence = ?, request = NULL
WHERE seq = ? AND state = 'unknown'
RETURNING position, prior, object_id, http_status, contingent, ended_at, evidence
"""

# The totals are updated once for several hundred events, so they add almost nothing to a call's time.
FOLD = """
INSERT INTO total (day, endpoint, spent, reserved, calls, refused)
SELECT day, endpoint, sum(spent), sum(reserved), sum(calls), sum(refused) FROM unfolded
WHERE true GROUP BY day, endpoint
ON CONFLICT DO UPDATE SET spent = spent + excluded.spent, reserved = reserved + excluded.reserved,
    calls = calls + excluded.calls, refused = refused + excluded.refused
"""
FOLDED = "UPDATE ledger SET folded = ?"

END_NOTE = "UPDATE call SET http_status = ?, ended_at = ? WHERE seq = ?"

SELECT_POSITION = (
    "SELECT state, value, currency, usd_per_unit, open_writes FROM position WHERE key = ?"
)
BEGIN_WRITE = "UPDATE position SET last_write = ?, open_writes = open_writes + 1 WHERE key = ?"
END_WRITE = "UPDATE position SET open_writes = open_writes - 1 WHERE key = ?"
SELECT_COUNTED = (
    "SELECT value, state, last_call, last_write, open_writes FROM position WHERE key = ?"
)

NEW_POSITION = """
INSERT INTO position (key, state, value, currency, usd_per_unit, last_call, last_write)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
MOVE_POSITION = """
UPDATE position SET state = ?, value = ?, currency = ?, usd_per_unit = ?, last_call = ? WHERE key = ?
"""

# The first call with a stake in an object: one that is open, or else one that ended after an event.
# A call with the same idempotency key is left out: see stakes.py.
SELECT_STAKES = """
SELECT stake.call, coalesce(call.endpoint, ''), coalesce(call.state, ''), stake.ended IS NOT NULL
FROM stake LEFT JOIN call ON call.seq = stake.call
WHERE stake.object = ? AND stake.role = ? AND (stake.ended IS NULL OR stake.ended > ?)
    AND NOT (stake.ended IS NULL AND call.idempotency_key IS NOT NULL AND call.idempotency_key IS ?
        AND call.owner IS ? AND call.method IS ? AND call.path IS ?)
ORDER BY stake.ended IS NOT NULL, stake.call LIMIT 1
"""
INSERT_STAKE = "INSERT INTO stake (object, role, call) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
END_PRICES = "DELETE FROM stake WHERE call = ? AND ended IS NULL AND role = 'prices'"
FORGET_RAISES = """
DELETE FROM stake WHERE role = 'raises' AND ended IS NOT NULL
    AND object IN (SELECT object FROM stake WHERE call = ? AND ended IS NULL)
"""
END_RAISES = "UPDATE stake SET ended = ? WHERE call = ? AND ended IS NULL"

SELECT_CHARGED = "SELECT coalesce(cost, 0), scopes, buckets, prior, run FROM call WHERE seq = ?"
GIVE_BACK = "UPDATE call SET cost = cost - ? WHERE seq = ?"
CHARGE_MORE = """
UPDATE call SET cost = cost + ?, reason = CASE WHEN cost + ? > reserved THEN 'overrun' ELSE reason END
WHERE seq = ?
"""

RECOUNT = "UPDATE scope SET reserved = reserved - ?, spent = spent + ? WHERE id = ?"
RECOUNT_BUCKET = """
UPDATE bucket SET reserved = reserved - ?, spent = spent + ? WHERE scope = ? AND rule = ? AND at = ?
"""

SELECT_IN_DOUBT = """
SELECT call.seq, call.uid, call.at, call.state, scope.uid, scope.label, call.vendor, call.endpoint,
    call.method, call.path, call.origin, call.account, call.owner, call.request, call.reserved, call.amount,
    call.currency, call.usd_per_unit, call.idempotency_key, call.position, call.object_id, call.meter,
    call.reason, call.http_status, call.process, call.cost
FROM call LEFT JOIN scope ON scope.id = call.run
"""

ONE_IN_DOUBT = f"{SELECT_IN_DOUBT} WHERE call.seq = ?"
# Reserved calls have no index, which would write two more pages per call. Find them through the runs
# with a reserved amount; CROSS JOIN forces SQLite to start there.
_SEQ_IN_DOUBT = """
SELECT seq FROM call WHERE state = 'unknown'
UNION
SELECT call.seq FROM scope CROSS JOIN call ON call.run = scope.id
WHERE scope.reserved > 0 AND call.state = 'reserved'
UNION
SELECT seq FROM call WHERE state = 'reserved' AND reserved = 0 AND position IS NOT NULL
UNION
SELECT call FROM stake WHERE ended IS NULL
"""
ALL_IN_DOUBT = f"{SELECT_IN_DOUBT} WHERE call.seq IN ({_SEQ_IN_DOUBT}) ORDER BY call.seq"

SELECT_ESTIMATED = """
SELECT position.key, position.value, call.seq, call.at, scope.uid, scope.label, call.vendor, call.endpoint,
    call.path, call.origin, call.account, call.owner, call.object_id
FROM position
JOIN call ON call.seq = position.last_call
LEFT JOIN scope ON scope.id = call.run
WHERE position.state = 'estimated' ORDER BY position.last_call
"""

SELECT_OPEN_CALL = """
SELECT state, scopes, buckets, reserved, position, leans_on, contingent FROM call WHERE seq = ?
"""

SELECT_LEANERS = """
SELECT seq FROM call WHERE leans_on = ? AND state IN ('reserved', 'unknown') ORDER BY seq
"""
