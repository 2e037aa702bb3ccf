//! What the bank declined and its own files say that it took. Which of the two holds only the bank can say: until a person has ended
//! the break that tells it, nobody asks for the charge again, or its rider might pay twice.

use crate::keys::TokenKey;
use crate::store::StoreError;
use crate::store::db::{Conn, query};

/// Whether no open break says of a declined charge `c` that the bank took it after all: an answer that contradicts the decline, or
/// a line of a statement that names one of its attempts.
macro_rules! is_uncontested {
    () => {
        "((c.service_day, lower(hex(c.token_key)) || '-' || c.part) NOT IN \
         (SELECT k.service_day, rtrim(rtrim(k.subject, '0123456789'), '-') FROM breaks AS k \
         WHERE k.closed_ms IS NULL AND k.kind = 'answer_contradicts' AND k.service_day IS NOT NULL) \
         AND NOT EXISTS (SELECT 1 FROM their_lines AS l JOIN breaks AS k ON k.service_day = l.file_day AND k.closed_ms IS NULL \
         AND k.kind IN ('statement_missing_ours', 'statement_slip') \
         AND (k.subject = 'all' OR (k.subject = lower(hex(l.token_key)) || '-' || l.part || '-' || l.attempt_no \
         AND COALESCE(k.named_day, l.service_day) = l.service_day)) \
         WHERE l.source = 'statement' AND l.service_day = c.service_day AND l.token_key = c.token_key AND l.part = c.part \
         AND l.state IN ('missing_ours', 'cutoff_slip')))"
    };
}

pub(in crate::clearing) use is_uncontested;

/// How many debts of a token are left alone for that reason.
pub(super) async fn contested_in(conn: &mut Conn, token: TokenKey) -> Result<u64, StoreError> {
    let count: i64 = query(concat!(
        "SELECT count(*) FROM debts AS d JOIN charges AS c ON c.service_day = d.service_day AND c.token_key = d.token_key \
         AND c.part = d.part WHERE d.token_key = ? AND d.state = 'open' AND c.state = 'declined' AND NOT ",
        is_uncontested!()
    ))
    .bind(token.as_slice())
    .scalar(conn)
    .await?;
    Ok(count.unsigned_abs())
}
