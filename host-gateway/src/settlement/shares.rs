//! Whose a charge is: the operators' shares, frozen when its parts are booked.
//!
//! A day's method is fixed when a fare of it is first asked for early, or else when its close begins. By `fixed` nothing is
//! frozen, and the configured weights split what the day came to. By the others each part of a charge has rows in
//! `charge_shares` that add up to it: the first what the rider did, a later one the difference, so that together they are
//! what the whole day gives, and a refund takes back by what the parts before it gave.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wavepass_fares::{Category, Fen, Journey, ServiceDay, ShareMethod, Sharer, Tariffs, split};

use super::{SettlementConfig, SettlementError};
use crate::clearing::{ClearingError, token_key};
use crate::keys::TokenKey;
use crate::store::db::{Conn, Row, query, read_many, write_many};

/// What operators' shares go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The configured weights.
    #[default]
    Fixed,
    /// What each operator's stretch of a journey would cost alone.
    Nominal,
    /// The metres that riders went on each operator's lines.
    PassengerKm,
}

impl Method {
    const ALL: [Self; 3] = [Self::Fixed, Self::Nominal, Self::PassengerKm];

    /// The word that stores and files use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Nominal => "nominal",
            Self::PassengerKm => "passenger_km",
        }
    }

    /// Reads the store's word.
    pub(crate) fn stored(word: &str) -> Result<Self, ClearingError> {
        let method = Self::ALL.into_iter().find(|method| method.as_str() == word);
        method.ok_or_else(|| ClearingError::damaged("a day's method of shares"))
    }
}

/// Tokens with shares below zero that are read at a time.
pub(super) const TOKENS: u32 = 2_000;

/// What operators get of an amount, by number. None of them is zero.
pub(crate) type Shares = BTreeMap<u16, Fen>;

/// How a day's charges are shared: none where the shares are fixed.
#[derive(Debug, Clone)]
pub(crate) struct Sharing {
    method: ShareMethod,
    by_code: BTreeMap<String, u16>,
    /// Numbers and weights of all, for what is no operator's.
    all: (Vec<u16>, Vec<u64>),
}

impl Sharing {
    /// The sharing of a day; refused where an operator of the day's tariff is not configured.
    pub(crate) fn of(
        method: Method,
        config: &SettlementConfig,
        tariffs: &Tariffs,
        day: ServiceDay,
    ) -> Result<Option<Self>, SettlementError> {
        let method = match method {
            Method::Fixed => return Ok(None),
            Method::Nominal => ShareMethod::Nominal,
            Method::PassengerKm => ShareMethod::PassengerKm,
        };
        config.check()?;
        let codes = config.operators.iter().filter_map(|o| Some((o.code.clone()?, o.operator)));
        let by_code: BTreeMap<String, u16> = codes.collect();
        if let Some(code) = tariffs.operators(day).iter().find(|code| !by_code.contains_key(*code)) {
            return Err(SettlementError::UnknownOperator { code: code.clone(), day });
        }
        let all = config.operators.iter().map(|o| (o.operator, o.share)).unzip();
        Ok(Some(Self { method, by_code, all }))
    }

    pub(crate) fn sharer<'t>(&self, tariffs: &'t Tariffs) -> Sharer<'t> {
        Sharer::new(tariffs, self.method)
    }

    /// The shares of one token's charge for a day.
    pub(crate) fn shares(
        &self,
        sharer: &mut Sharer<'_>,
        category: Category,
        journeys: &[Journey],
    ) -> Result<Shares, ClearingError> {
        let mut shares = Shares::new();
        for share in sharer.day(category, journeys)? {
            match share.operator {
                Some(code) => {
                    let operator = self.by_code.get(code).copied();
                    let operator = operator.ok_or_else(|| ClearingError::damaged("an operator's code"))?;
                    add(&mut shares, operator, share.fen)?;
                }
                // The configuration was checked: one weight is above zero.
                None => {
                    let parts = split(share.fen, &self.all.1)
                        .map_err(|_| ClearingError::damaged("operators' shares"))?;
                    for (&operator, part) in self.all.0.iter().zip(parts) {
                        add(&mut shares, operator, part)?;
                    }
                }
            }
        }
        shares.retain(|_, fen| !fen.is_zero());
        Ok(shares)
    }
}

fn add(shares: &mut Shares, operator: u16, fen: Fen) -> Result<(), ClearingError> {
    let sum = shares.entry(operator).or_default();
    *sum = sum.plus(fen)?;
    Ok(())
}

/// What must be added to some shares to make them others.
pub(crate) fn difference(to: &Shares, from: &Shares) -> Result<Shares, ClearingError> {
    let mut difference = to.clone();
    for (&operator, fen) in from {
        add(&mut difference, operator, fen.negated()?)?;
    }
    difference.retain(|_, fen| !fen.is_zero());
    Ok(difference)
}

/// What a refund takes back of each operator, negative: in proportion to what it was given, and never more than that.
/// The amount is at most what they were given together.
pub(crate) fn take_back(amount: Fen, given: &Shares) -> Result<Shares, ClearingError> {
    let (operators, weights): (Vec<u16>, Vec<u64>) = given
        .iter()
        .filter(|(_, fen)| **fen > Fen::ZERO)
        .map(|(&operator, fen)| (operator, fen.0.unsigned_abs()))
        .unzip();
    let parts =
        split(amount.negated()?, &weights).map_err(|_| ClearingError::damaged("the shares of a charge"))?;
    let parts = operators.into_iter().zip(parts).filter(|(_, fen)| !fen.is_zero());
    Ok(parts.collect())
}

/// So much of some shares as an amount is of their sum, and of the same sign: each operator's in proportion, in whole fen. Of
/// none, which is so where shares are fixed, none.
pub(crate) fn portion(of: &Shares, amount: Fen) -> Result<Shares, ClearingError> {
    let sum = Fen::sum(of.values().copied())?;
    if of.is_empty() || amount.is_zero() {
        return Ok(Shares::new());
    }
    if sum.is_zero() || (sum < Fen::ZERO) != (amount < Fen::ZERO) {
        return Err(ClearingError::damaged("the shares of a charge"));
    }
    // Those that count against the sum, in whole fen; the others share what is then left to them.
    let (mut portion, mut rest) = (Shares::new(), amount);
    let against = |fen: Fen| (fen < Fen::ZERO) != (sum < Fen::ZERO);
    for (&operator, fen) in of.iter().filter(|(_, fen)| against(**fen)) {
        // Smaller than the share, which has 64 bits.
        let part = i128::from(fen.0) * i128::from(amount.0) / i128::from(sum.0);
        let part = Fen(i64::try_from(part).map_err(|_| ClearingError::damaged("the shares of a charge"))?);
        rest = rest.minus(part)?;
        add(&mut portion, operator, part)?;
    }
    let (operators, weights): (Vec<u16>, Vec<u64>) = of
        .iter()
        .filter(|(_, fen)| !against(**fen))
        .map(|(&operator, fen)| (operator, fen.0.unsigned_abs()))
        .unzip();
    let parts = split(rest, &weights).map_err(|_| ClearingError::damaged("the shares of a charge"))?;
    for (operator, part) in operators.into_iter().zip(parts) {
        add(&mut portion, operator, part)?;
    }
    portion.retain(|_, fen| !fen.is_zero());
    Ok(portion)
}

/// Sums of shares.
pub(crate) fn together(one: &Shares, other: &Shares) -> Result<Shares, ClearingError> {
    let mut sum = one.clone();
    for (&operator, fen) in other {
        add(&mut sum, operator, *fen)?;
    }
    sum.retain(|_, fen| !fen.is_zero());
    Ok(sum)
}

/// Enters whose it is that parts are set off against others: token, part, part that it is set off against, how much.
pub(crate) async fn set_off_in(
    conn: &mut Conn,
    day: ServiceDay,
    set_offs: &[(TokenKey, u32, u32, Fen)],
) -> Result<(), ClearingError> {
    let parts: BTreeSet<(TokenKey, u32)> = set_offs.iter().map(|(token, part, ..)| (*token, *part)).collect();
    // What of each part is not set off.
    let mut left: BTreeMap<(TokenKey, u32), Shares> = BTreeMap::new();
    for text in [
        "SELECT s.token_key, s.part, s.operator, s.amount_fen FROM (VALUES ??) AS v CROSS JOIN charge_shares AS s \
         WHERE s.service_day = v.column1 AND s.token_key = v.column2 AND s.part = v.column3",
        "SELECT s.token_key, s.part, s.operator, s.amount_fen FROM (VALUES ??) AS v CROSS JOIN set_off_shares AS s \
         WHERE s.service_day = v.column1 AND s.token_key = v.column2 AND s.part = v.column3",
    ] {
        let names = parts.iter().map(|(token, part)| (day.number(), token.as_slice(), *part));
        for row in read_many(&mut *conn, text, names).await? {
            let shares = left.entry((token_key(row.try_get(0)?)?, row.try_get(1)?)).or_default();
            add(shares, row.try_get(2)?, Fen(row.try_get(3)?))?;
        }
    }
    let mut rows = Vec::new();
    for &(token, part, of_part, amount) in set_offs {
        // No shares: they are fixed.
        let Some(shares) = left.get_mut(&(token, part)) else { continue };
        let moved = portion(shares, amount.negated()?)?;
        *shares = difference(shares, &moved)?;
        let row = |(operator, fen): (u16, Fen)| -> Result<_, ClearingError> {
            Ok((day.number(), token.0, part, of_part, operator, fen.negated()?.0))
        };
        let of_operators: Result<Vec<_>, ClearingError> = moved.into_iter().map(row).collect();
        rows.extend(of_operators?);
    }
    let text =
        "INSERT INTO set_off_shares (service_day, token_key, part, of_part, operator, amount_fen) VALUES ??";
    write_many(
        conn,
        text,
        rows.iter().map(|(day, token, part, of, operator, fen)| (*day, token, *part, *of, *operator, *fen)),
    )
    .await?;
    Ok(())
}

/// Writes the shares of parts of charges: token, part, shares.
pub(crate) async fn write_in<'a>(
    conn: &mut Conn,
    day: ServiceDay,
    parts: impl Iterator<Item = (TokenKey, i64, &'a Shares)> + Send,
) -> Result<(), ClearingError> {
    let rows = parts.flat_map(|(key, part, shares)| {
        let row = move |(&operator, fen): (&u16, &Fen)| {
            (day.number(), key.as_slice().to_vec(), part, operator, fen.0)
        };
        shares.iter().map(row)
    });
    let text = "INSERT INTO charge_shares (service_day, token_key, part, operator, amount_fen) VALUES ??";
    write_many(conn, text, rows).await?;
    Ok(())
}

/// What a day's fares gave each operator so far, and what of it refunds took back, of tokens after `cursor` up to `last`.
pub(crate) async fn given_in(
    conn: &mut Conn,
    day: ServiceDay,
    cursor: &[u8],
    last: &[u8],
) -> Result<BTreeMap<TokenKey, (Shares, Shares)>, ClearingError> {
    let rows = query(
        "SELECT s.token_key, s.operator, CAST(SUM(CASE c.kind WHEN 'fare' THEN s.amount_fen ELSE 0 END) AS BIGINT), \
         CAST(SUM(CASE c.kind WHEN 'refund' THEN -s.amount_fen ELSE 0 END) AS BIGINT) FROM charge_shares AS s \
         JOIN charges AS c ON c.service_day = s.service_day AND c.token_key = s.token_key AND c.part = s.part \
         WHERE s.service_day = ? AND s.token_key > ? AND s.token_key <= ? GROUP BY s.token_key, s.operator",
    )
    .bind(day.number())
    .bind(cursor)
    .bind(last)
    .fetch_all(conn)
    .await?;
    let mut of_tokens: BTreeMap<TokenKey, (Shares, Shares)> = BTreeMap::new();
    for row in &rows {
        let (given, taken) = of_tokens.entry(token_key(row.try_get(0)?)?).or_default();
        let operator = row.try_get(1)?;
        add(given, operator, Fen(row.try_get(2)?))?;
        add(taken, operator, Fen(row.try_get(3)?))?;
    }
    Ok(of_tokens)
}

/// What all parts of some tokens' charges for a day gave each operator so far, and left it.
pub(crate) async fn given_to_in(
    conn: &mut Conn,
    day: ServiceDay,
    tokens: &[TokenKey],
) -> Result<BTreeMap<TokenKey, Shares>, ClearingError> {
    let text = "SELECT s.token_key, s.operator, CAST(SUM(s.amount_fen) AS BIGINT) FROM (VALUES ??) AS v \
                CROSS JOIN charge_shares AS s WHERE s.service_day = v.column1 AND s.token_key = v.column2 \
                GROUP BY s.token_key, s.operator";
    by_token(&read_many(conn, text, tokens.iter().map(|key| (day.number(), key.as_slice()))).await?)
}

/// Rows of a token, an operator and an amount.
fn by_token(rows: &[Row]) -> Result<BTreeMap<TokenKey, Shares>, ClearingError> {
    let mut given: BTreeMap<TokenKey, Shares> = BTreeMap::new();
    for row in rows {
        let shares = given.entry(token_key(row.try_get(0)?)?).or_default();
        add(shares, row.try_get(1)?, Fen(row.try_get(2)?))?;
    }
    Ok(given)
}

/// Rows of an operator and an amount.
fn shares_of(rows: &[Row]) -> Result<Shares, ClearingError> {
    let share = |row: &Row| Ok((row.try_get(0)?, Fen(row.try_get(1)?)));
    rows.iter().map(share).collect::<Result<_, sqlx::Error>>().map_err(Into::into)
}

/// The method of a day whose close has begun.
pub(crate) async fn method_in(conn: &mut Conn, day: ServiceDay) -> Result<Option<Method>, ClearingError> {
    stored_in(conn, "SELECT shares FROM day_close WHERE service_day = ? AND rank = 0", day).await
}

/// The method of a day that fares were asked for early of.
pub(crate) async fn early_method_in(
    conn: &mut Conn,
    day: ServiceDay,
) -> Result<Option<Method>, ClearingError> {
    stored_in(conn, "SELECT shares FROM early_days WHERE service_day = ?", day).await
}

async fn stored_in(
    conn: &mut Conn,
    text: &'static str,
    day: ServiceDay,
) -> Result<Option<Method>, ClearingError> {
    let word: Option<String> = query(text).bind(day.number()).optional(conn).await?;
    word.as_deref().map(Method::stored).transpose()
}

/// Fixes the method of a day before a fare of it is first asked for early.
pub(crate) async fn fix_early_method_in(
    conn: &mut Conn,
    day: ServiceDay,
    method: Method,
) -> Result<(), ClearingError> {
    query("INSERT INTO early_days (service_day, shares) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(day.number())
        .bind(method.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Of a day, whose everything is that was deducted, `x`: token, operator and fen. A part that the bank is not asked for counts with
/// the part that it follows: a refund that was offset with what it gives back, a change of shares alone with the first. What is set
/// off counts for neither of its two parts.
macro_rules! of_deducted {
    ($select:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $select,
            " FROM (SELECT s.token_key, s.operator, s.amount_fen AS fen FROM charge_shares AS s \
             JOIN charges AS c ON c.service_day = s.service_day AND c.token_key = s.token_key AND c.part = s.part \
             JOIN charges AS o ON o.service_day = c.service_day AND o.token_key = c.token_key AND o.part = CASE \
             WHEN c.kind = 'refund' AND c.offset_fen > 0 THEN c.of_part WHEN c.amount_fen = 0 THEN 1 ELSE c.part END \
             WHERE s.service_day = ?1 AND o.state = 'deducted' \
             UNION ALL SELECT m.token_key, m.operator, m.amount_fen FROM set_off_shares AS m \
             JOIN charges AS c ON c.service_day = m.service_day AND c.token_key = m.token_key AND c.part = m.part \
             WHERE m.service_day = ?1 AND c.state = 'deducted' \
             UNION ALL SELECT m.token_key, m.operator, -m.amount_fen FROM set_off_shares AS m \
             JOIN charges AS c ON c.service_day = m.service_day AND c.token_key = m.token_key AND c.part = m.of_part \
             WHERE m.service_day = ?1 AND c.state = 'deducted') AS x ",
            $rest
        )
    };
}

/// What operators get of what was deducted of a day. Where a part took from an operator what the bank has not taken for it, that
/// operator gets nothing of the token's day, and the others share what was taken. So many tokens' shares are in memory at once.
pub(super) async fn deducted_in(
    conn: &mut Conn,
    day: ServiceDay,
    page: u32,
) -> Result<Shares, ClearingError> {
    let rows = query(of_deducted!("x.operator, CAST(SUM(x.fen) AS BIGINT)", "GROUP BY x.operator"))
        .bind(day.number())
        .fetch_all(&mut *conn)
        .await?;
    let mut shares = shares_of(&rows)?;
    // Few parts have a share below zero, and few of these stand without the one that they take from.
    let mut cursor = Vec::new();
    loop {
        let text = "SELECT DISTINCT token_key FROM charge_shares WHERE service_day = ? AND amount_fen < 0 AND token_key > ? \
                    ORDER BY token_key LIMIT ?";
        let tokens = query(text).bind(day.number()).bind(cursor.as_slice()).bind(page);
        let mut tokens: Vec<Vec<u8>> = tokens.column(&mut *conn).await?;
        let Some(last) = tokens.pop() else { return Ok(shares) };
        let of_tokens: Vec<(Vec<u8>, u16, i64)> = query(of_deducted!(
            "x.token_key, x.operator, CAST(SUM(x.fen) AS BIGINT)",
            "WHERE x.token_key > ?2 AND x.token_key <= ?3 AND x.token_key IN (SELECT n.token_key FROM charge_shares AS n \
             WHERE n.service_day = ?1 AND n.token_key > ?2 AND n.token_key <= ?3 AND n.amount_fen < 0) \
             GROUP BY x.token_key, x.operator ORDER BY x.token_key, x.operator"
        ))
        .bind(day.number())
        .bind(cursor)
        .bind(last.as_slice())
        .rows(&mut *conn)
        .await?;
        for token in of_tokens.chunk_by(|a, b| a.0 == b.0) {
            let own: Shares = token.iter().map(|(_, operator, fen)| (*operator, Fen(*fen))).collect();
            shares = together(&shares, &difference(&none_below_zero(&own)?, &own)?)?;
        }
        cursor = last;
    }
}

/// The same sum, with nobody below zero: in proportion to what the others have of it.
fn none_below_zero(shares: &Shares) -> Result<Shares, ClearingError> {
    let sum = Fen::sum(shares.values().copied())?;
    if sum < Fen::ZERO || shares.values().all(|fen| *fen >= Fen::ZERO) {
        return Ok(shares.clone());
    }
    let above: Shares =
        shares.iter().filter(|(_, fen)| **fen > Fen::ZERO).map(|(o, fen)| (*o, *fen)).collect();
    portion(&above, sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(shares: &Shares) -> i64 {
        shares.values().map(|fen| fen.0).sum()
    }

    fn shares() -> impl Strategy<Value = Shares> {
        prop::collection::btree_map(0..6_u16, (-500..5_000_i64).prop_map(Fen), 1..6)
    }

    proptest! {
        #[test]
        fn a_refund_takes_back_what_it_gives_and_at_most_what_each_was_given(
            given in shares(), part in 0..=100_i64,
        ) {
            let whole = sum(&given);
            prop_assume!(whole > 0);
            let amount = Fen(whole * part / 100);
            let taken = take_back(amount, &given).unwrap();
            prop_assert_eq!(sum(&taken), -amount.0);
            for (operator, fen) in &taken {
                prop_assert!(*fen < Fen::ZERO && given[operator].0 + fen.0 >= 0);
            }
        }

        #[test]
        fn a_portion_is_the_amount_and_the_rest_with_it_the_whole(of in shares(), part in 0..=100_i64, flip in any::<bool>()) {
            let of: Shares = of.into_iter().map(|(o, fen)| (o, if flip { Fen(-fen.0) } else { fen })).collect();
            let whole = sum(&of);
            let amount = whole * part / 100;
            let taken = portion(&of, Fen(amount)).unwrap();
            prop_assert_eq!(sum(&taken), amount);
            // None gets more than its share, or of the other sign.
            for (operator, fen) in &taken {
                let share = of[operator].0;
                prop_assert!(fen.0.signum() == share.signum() && fen.0.abs() <= share.abs(), "{taken:?} of {of:?}");
            }
            let rest = difference(&of, &taken).unwrap();
            let of: Shares = of.into_iter().filter(|(_, fen)| !fen.is_zero()).collect();
            prop_assert_eq!(together(&rest, &taken).unwrap(), of);
        }

        #[test]
        fn what_was_taken_of_a_day_is_shared_with_nobody_below_zero(of in shares()) {
            let shared = none_below_zero(&of).unwrap();
            prop_assert_eq!(sum(&shared), sum(&of));
            if sum(&of) < 0 {
                prop_assert_eq!(shared, of);
            } else {
                for (operator, fen) in &shared {
                    prop_assert!(*fen >= Fen::ZERO && *fen <= of[operator], "{shared:?} of {of:?}");
                }
            }
        }

        #[test]
        fn the_difference_of_shares_makes_the_one_of_the_other(from in shares(), to in shares()) {
            let change = difference(&to, &from).unwrap();
            prop_assert_eq!(sum(&change), sum(&to) - sum(&from));
            let mut made = from;
            for (operator, fen) in change {
                add(&mut made, operator, fen).unwrap();
            }
            made.retain(|_, fen| !fen.is_zero());
            let to: Shares = to.into_iter().filter(|(_, fen)| !fen.is_zero()).collect();
            prop_assert_eq!(made, to);
        }
    }
}
