//! Checks that the database makes itself: each query gives a subject and a detail for every difference of a day.

/// By kind. `?1` is the service day. None gives more than 5,000 rows: beyond that, one cause is behind all.
pub(super) const BY_DAY: [(&str, &str); 11] = [
    (
        "deduction_missing",
        "SELECT lower(hex(c.token_key)) || '-' || c.part, 'deducted ' || c.amount_fen || ' fen without an approved attempt' \
         FROM charges AS c WHERE c.service_day = ?1 AND c.state = 'deducted' AND c.amount_fen <> 0 AND NOT EXISTS \
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
         ' fen, charge of ' || c.amount_fen FROM attempts AS a JOIN charges AS c ON c.service_day = a.service_day \
         AND c.token_key = a.token_key AND c.part = a.part WHERE a.service_day = ?1 AND a.amount_fen <> c.amount_fen LIMIT 5000",
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
         OR c.amount_fen <> (SELECT COALESCE(SUM(p.amount_fen), 0) FROM ledger_postings AS p WHERE p.service_day = c.service_day \
         AND p.shard = c.token_key AND p.part = c.part AND p.account = CASE c.state WHEN 'deducted' THEN 'deducted' \
         WHEN 'in_doubt' THEN 'in_doubt' WHEN 'waived' THEN 'waived' ELSE 'owed' END)) LIMIT 5000",
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
        "debt_missing",
        "SELECT lower(hex(c.token_key)) || '-' || c.part, 'declined ' || c.amount_fen || ' fen, and no open debt' \
         FROM charges AS c WHERE c.service_day = ?1 AND c.state = 'declined' AND c.amount_fen > 0 AND NOT EXISTS \
         (SELECT 1 FROM debts AS d WHERE d.token_key = c.token_key AND d.service_day = c.service_day AND d.part = c.part \
         AND d.state = 'open' AND d.amount_fen = c.amount_fen) LIMIT 5000",
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
         JOIN tokens AS t ON t.token_key = d.token_key WHERE d.service_day = ?1 AND d.state = 'open' AND NOT EXISTS \
         (SELECT 1 FROM deny_entries AS e WHERE e.token_key = d.token_key AND e.cause = 'debt') LIMIT 5000",
    ),
    (
        "denied_without_debt",
        "SELECT lower(hex(d.token_key)), 'owes nothing, and is on the deny list for debt' FROM debts AS d \
         JOIN deny_entries AS e ON e.token_key = d.token_key AND e.cause = 'debt' WHERE d.service_day = ?1 \
         AND NOT EXISTS (SELECT 1 FROM debts AS o WHERE o.token_key = d.token_key AND o.state = 'open') LIMIT 5000",
    ),
];

/// Charged, deducted, in doubt, owed and waived as the tables have them; the number, sum and fees of settlements.
pub(super) const SUMS: &str = "SELECT \
    (SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM charges WHERE service_day = ?1), \
    (SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM attempts WHERE service_day = ?1 AND state = 'approved'), \
    (SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM attempts WHERE service_day = ?1 AND state = 'in_doubt'), \
    (SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM charges WHERE service_day = ?1 AND state IN ('open', 'sent', 'declined')), \
    (SELECT CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT) FROM charges WHERE service_day = ?1 AND state = 'waived'), \
    (SELECT count(*) FROM settlements WHERE service_day = ?1), \
    (SELECT CAST(COALESCE(SUM(settled_fen), 0) AS BIGINT) FROM settlements WHERE service_day = ?1), \
    (SELECT CAST(COALESCE(SUM(fees_fen), 0) AS BIGINT) FROM settlements WHERE service_day = ?1)";
