//! Checks that the database makes itself: each query gives a subject and a detail for every difference of a day.
//!
//! A charge's amount is what the rider is charged; the bank is asked for the amount and the offset.

/// Tables that grow within minutes, before a day is reconciled.
pub(super) const TABLES: [&str; 9] = [
    "attempts",
    "bank_answers",
    "bank_postings",
    "charge_shares",
    "charges",
    "debts",
    "journeys",
    "ledger_postings",
    "ledger_transactions",
];

/// By kind. `?1` is the service day. None gives more than 5,000 rows: beyond that, one cause is behind all.
pub(super) const BY_DAY: [(&str, &str); 17] = [
    (
        "deduction_missing",
        "SELECT lower(hex(c.token_key)) || '-' || c.part, 'deducted ' || (c.amount_fen + c.offset_fen) || ' fen without an approved attempt' \
         FROM charges AS c WHERE c.service_day = ?1 AND c.state = 'deducted' AND c.amount_fen + c.offset_fen <> 0 AND NOT EXISTS \
         (SELECT 1 FROM attempts AS a WHERE a.service_day = c.service_day AND a.token_key = c.token_key \
         AND a.part = c.part AND a.state = 'approved') LIMIT 5000",
    ),
    (
        "deduction_extra",
        "SELECT lower(hex(a.token_key)) || '-' || a.part, 'attempt ' || a.attempt_no || ' is approved, its charge is not deducted' \
         FROM attempts AS a LEFT JOIN charges AS c ON c.service_day = a.service_day AND c.token_key = a.token_key \
         AND c.part = a.part WHERE a.service_day = ?1 AND a.state = 'approved' AND COALESCE(c.state, '') <> 'deducted' LIMIT 5000",
    ),
    (
        "deduction_amount",
        "SELECT lower(hex(a.token_key)) || '-' || a.part, 'attempt ' || a.attempt_no || ' of ' || a.amount_fen || \
         ' fen, charge of ' || (c.amount_fen + c.offset_fen) FROM attempts AS a JOIN charges AS c ON c.service_day = a.service_day \
         AND c.token_key = a.token_key AND c.part = a.part WHERE a.service_day = ?1 AND a.state <> 'declined' \
         AND a.amount_fen <> c.amount_fen + c.offset_fen LIMIT 5000",
    ),
    (
        "state_differs",
        "SELECT lower(hex(c.token_key)) || '-' || c.part, 'charge is ' || c.state || ', its last attempt ' || COALESCE(a.state, 'missing') \
         FROM charges AS c LEFT JOIN attempts AS a ON a.service_day = c.service_day AND a.token_key = c.token_key \
         AND a.part = c.part AND a.attempt_no = c.attempts WHERE c.service_day = ?1 AND c.attempts > 0 \
         AND c.state IN ('sent', 'in_doubt', 'declined') AND COALESCE(a.state, '') <> c.state LIMIT 5000",
    ),
    (
        "ledger_differs",
        "SELECT lower(hex(c.token_key)) || '-' || c.part, 'charge of ' || c.amount_fen || ' fen is ' || c.state || \
         ', the ledger has it otherwise' FROM charges AS c WHERE c.service_day = ?1 AND ( \
         c.amount_fen <> -(SELECT COALESCE(SUM(p.amount_fen), 0) FROM ledger_postings AS p WHERE p.service_day = c.service_day \
         AND p.shard = c.token_key AND p.part = c.part AND p.account = 'fares') \
         OR c.amount_fen + CASE WHEN c.state IN ('deducted', 'in_doubt', 'waived', 'written_off') THEN c.offset_fen ELSE 0 END \
         <> (SELECT COALESCE(SUM(p.amount_fen), 0) FROM ledger_postings AS p WHERE p.service_day = c.service_day \
         AND p.shard = c.token_key AND p.part = c.part AND p.account = CASE c.state WHEN 'deducted' THEN 'deducted' \
         WHEN 'in_doubt' THEN 'in_doubt' WHEN 'waived' THEN 'waived' WHEN 'written_off' THEN 'written_off' ELSE 'owed' END)) LIMIT 5000",
    ),
    (
        "ledger_extra",
        "SELECT lower(hex(t.shard)) || '-' || t.part, t.kind || ' without a charge' FROM ledger_transactions AS t \
         WHERE t.service_day = ?1 AND t.kind <> 'settled' AND NOT EXISTS (SELECT 1 FROM charges AS c \
         WHERE c.service_day = t.service_day AND c.token_key = t.shard AND c.part = t.part) LIMIT 5000",
    ),
    (
        "ledger_unbalanced",
        "SELECT lower(hex(shard)) || '-' || part, 'event ' || event || ' sums to ' || SUM(amount_fen) || ' fen' \
         FROM ledger_postings WHERE service_day = ?1 GROUP BY service_day, shard, part, event \
         HAVING SUM(amount_fen) <> 0 LIMIT 5000",
    ),
    (
        "shares_differ",
        "SELECT lower(hex(c.token_key)) || '-' || c.part, 'charge of ' || c.amount_fen || ' fen, operators'' shares of ' || \
         COALESCE(SUM(s.amount_fen), 0) FROM charges AS c JOIN day_close AS d ON d.service_day = c.service_day \
         AND d.rank = c.rank AND d.shard = 0 LEFT JOIN charge_shares AS s ON s.service_day = c.service_day AND s.token_key = c.token_key \
         AND s.part = c.part WHERE c.service_day = ?1 AND d.shares <> 'fixed' \
         GROUP BY c.token_key, c.part, c.amount_fen HAVING COALESCE(SUM(s.amount_fen), 0) <> c.amount_fen LIMIT 5000",
    ),
    (
        "refund_differs",
        "SELECT lower(hex(c.token_key)) || '-' || c.part, 'gives back ' || -c.amount_fen || ' fen, offset ' || c.offset_fen || \
         ', and no dispute or no part has the other side' FROM charges AS c WHERE c.service_day = ?1 \
         AND ((c.kind = 'refund' AND NOT EXISTS (SELECT 1 FROM refunds AS r WHERE r.token_key = c.token_key \
         AND r.service_day = c.service_day AND r.part = c.part AND r.of_part = c.of_part AND r.amount_fen = -c.amount_fen)) \
         OR c.offset_fen <> CASE c.kind WHEN 'refund' THEN CASE c.offset_fen WHEN 0 THEN 0 ELSE -c.amount_fen END \
         ELSE -(SELECT COALESCE(SUM(o.offset_fen), 0) FROM charges AS o WHERE o.service_day = c.service_day \
         AND o.token_key = c.token_key AND o.of_part = c.part) \
         + (SELECT COALESCE(SUM(CASE WHEN s.part = c.part THEN s.amount_fen ELSE -s.amount_fen END), 0) FROM set_offs AS s \
         WHERE s.service_day = c.service_day AND s.token_key = c.token_key AND c.part IN (s.part, s.of_part)) END) LIMIT 5000",
    ),
    (
        "set_off_differs",
        "SELECT lower(hex(s.token_key)) || '-' || s.part, 'set off against part ' || s.of_part || ': ' || s.amount_fen || \
         ' fen, of operators ' || COALESCE(SUM(m.amount_fen), 0) FROM set_offs AS s JOIN charges AS c ON c.service_day = s.service_day \
         AND c.token_key = s.token_key AND c.part = s.part JOIN day_close AS d ON d.service_day = c.service_day AND d.rank = c.rank \
         AND d.shard = 0 LEFT JOIN set_off_shares AS m ON m.service_day = s.service_day AND m.token_key = s.token_key \
         AND m.part = s.part AND m.of_part = s.of_part WHERE s.service_day = ?1 AND d.shares <> 'fixed' \
         GROUP BY s.token_key, s.part, s.of_part, s.amount_fen HAVING COALESCE(SUM(m.amount_fen), 0) <> s.amount_fen LIMIT 5000",
    ),
    (
        "credit_unpaid",
        "SELECT lower(hex(token_key)), 'the bank credited ' || -SUM(amount_fen) || ' fen more than it took' FROM attempts \
         WHERE service_day = ?1 AND state = 'approved' GROUP BY token_key HAVING SUM(amount_fen) < 0 LIMIT 5000",
    ),
    (
        "credit_declined",
        "SELECT lower(hex(token_key)) || '-' || part, 'the bank declined to give back ' || -(amount_fen + offset_fen) || ' fen' FROM charges \
         WHERE service_day = ?1 AND state = 'declined' AND amount_fen + offset_fen < 0 LIMIT 5000",
    ),
    (
        "no_answer",
        "SELECT lower(hex(token_key)) || '-' || part, 'attempt ' || attempts || ', of ' || (amount_fen + offset_fen) || ' fen, has no answer of the bank' \
         FROM charges WHERE service_day = ?1 AND state IN ('sent', 'in_doubt') LIMIT 5000",
    ),
    (
        "debt_missing",
        "SELECT lower(hex(c.token_key)) || '-' || c.part, 'declined ' || (c.amount_fen + c.offset_fen) || ' fen, and no open debt' \
         FROM charges AS c WHERE c.service_day = ?1 AND c.state = 'declined' AND c.amount_fen > 0 AND NOT EXISTS \
         (SELECT 1 FROM debts AS d WHERE d.token_key = c.token_key AND d.service_day = c.service_day AND d.part = c.part \
         AND d.state = 'open' AND d.amount_fen = c.amount_fen + c.offset_fen) LIMIT 5000",
    ),
    (
        "debt_extra",
        "SELECT lower(hex(d.token_key)) || '-' || d.part, 'an open debt of ' || d.amount_fen || ' fen, charge ' || COALESCE(c.state, 'missing') \
         FROM debts AS d LEFT JOIN charges AS c ON c.service_day = d.service_day AND c.token_key = d.token_key AND c.part = d.part \
         WHERE d.service_day = ?1 AND d.state = 'open' AND COALESCE(c.state, '') NOT IN ('declined', 'sent', 'in_doubt') LIMIT 5000",
    ),
    (
        "debtor_not_denied",
        "SELECT DISTINCT lower(hex(d.token_key)), 'owes a debt, and is not on the deny list' FROM debts AS d \
         JOIN tokens AS t ON t.token_key = d.token_key WHERE d.service_day = ?1 AND d.state = 'open' AND t.account_id <> '' AND NOT EXISTS \
         (SELECT 1 FROM deny_entries AS e WHERE e.token_key = d.token_key AND e.cause = 'debt') LIMIT 5000",
    ),
    (
        "denied_without_debt",
        "SELECT lower(hex(d.token_key)), 'owes nothing, and is on the deny list for debt' FROM debts AS d \
         JOIN deny_entries AS e ON e.token_key = d.token_key AND e.cause = 'debt' WHERE d.service_day = ?1 \
         AND NOT EXISTS (SELECT 1 FROM debts AS o WHERE o.token_key = d.token_key AND o.state = 'open') LIMIT 5000",
    ),
];

/// Taps of a stretch of time as they came against those beside their tokens, which the close and this reconciliation price; by
/// kind. `?1` is the first instant and `?2` the one after the last. What waits for risk is not told. None gives more than 5,000
/// rows.
pub(super) const BY_TIME: [(&str, &str); 3] = [
    (
        "tap_missing",
        "SELECT lower(hex(t.key_id)) || '-' || t.sequence, 'an opened tap that is not beside its token' \
         FROM taps AS t INDEXED BY taps_time WHERE t.time_ms >= ?1 AND t.time_ms < ?2 AND t.opened = 1 AND t.token_key IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM token_taps AS i WHERE i.utc_day = t.time_ms / 86400000 AND i.token_key = t.token_key \
         AND i.time_ms = t.time_ms AND i.key_id = t.key_id AND i.sequence = t.sequence) \
         AND NOT EXISTS (SELECT 1 FROM arrivals AS a WHERE a.from_ms <= t.time_ms AND a.upto_ms >= t.time_ms \
         AND a.key_id = t.key_id AND t.sequence BETWEEN a.from_sequence AND a.upto_sequence) LIMIT 5000",
    ),
    (
        "tap_extra",
        "SELECT lower(hex(i.key_id)) || '-' || i.sequence, 'beside its token, and no opened tap' \
         FROM token_taps AS i WHERE i.utc_day BETWEEN ?1 / 86400000 AND ?2 / 86400000 AND i.time_ms >= ?1 AND i.time_ms < ?2 \
         AND NOT EXISTS (SELECT 1 FROM taps AS t WHERE t.key_id = i.key_id AND t.sequence = i.sequence AND t.opened = 1 \
         AND t.token_key = i.token_key AND t.time_ms = i.time_ms) LIMIT 5000",
    ),
    (
        "tap_differs",
        "SELECT lower(hex(t.key_id)) || '-' || t.sequence, 'beside its token it is another than came' \
         FROM taps AS t INDEXED BY taps_time CROSS JOIN token_taps AS i WHERE t.time_ms >= ?1 AND t.time_ms < ?2 AND t.opened = 1 \
         AND i.utc_day = t.time_ms / 86400000 AND i.token_key = t.token_key AND i.time_ms = t.time_ms \
         AND i.key_id = t.key_id AND i.sequence = t.sequence AND NOT (i.station = t.station AND i.direction = t.direction \
         AND i.withheld = t.withheld AND i.clock = t.clock AND i.cryptogram = t.cryptogram \
         AND i.service_day IS NOT DISTINCT FROM t.service_day AND i.atc IS NOT DISTINCT FROM t.atc \
         AND i.card_digest IS NOT DISTINCT FROM t.card_digest AND (i.passage IS NOT DISTINCT FROM t.passage \
         OR EXISTS (SELECT 1 FROM late_passages AS p WHERE p.key_id = t.key_id AND p.of = t.sequence))) LIMIT 5000",
    ),
];

/// Charged, deducted, in doubt, owed, waived and written off as the tables have them; the number, sum and fees of settlements.
pub(super) const SUMS: &str = "SELECT \
    (SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM charges WHERE service_day = ?1), \
    (SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM attempts WHERE service_day = ?1 AND state = 'approved'), \
    (SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM attempts WHERE service_day = ?1 AND state = 'in_doubt'), \
    (SELECT CAST(COALESCE(SUM(CASE WHEN state IN ('open', 'sent', 'declined') THEN amount_fen ELSE -offset_fen END), 0) AS BIGINT) \
     FROM charges WHERE service_day = ?1), \
    (SELECT CAST(COALESCE(SUM(amount_fen + offset_fen), 0) AS BIGINT) FROM charges WHERE service_day = ?1 AND state = 'waived'), \
    (SELECT CAST(COALESCE(SUM(amount_fen + offset_fen), 0) AS BIGINT) FROM charges WHERE service_day = ?1 AND state = 'written_off'), \
    (SELECT count(*) FROM settlements WHERE service_day = ?1), \
    (SELECT CAST(COALESCE(SUM(settled_fen), 0) AS BIGINT) FROM settlements WHERE service_day = ?1), \
    (SELECT CAST(COALESCE(SUM(fees_fen), 0) AS BIGINT) FROM settlements WHERE service_day = ?1)";
