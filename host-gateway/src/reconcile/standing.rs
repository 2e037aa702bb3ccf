//! How a day stands against a source's files: every line of theirs and every item of ours in one of six states, and the sums.

use serde::Serialize;
use utoipa::ToSchema;
use wavepass_fares::{Fen, ServiceDay};

use super::MAX_OF_A_KIND;
use super::breaks::Found;
use super::theirs::{Name, Source};
use crate::clearing::{ClearingError, token_key};
use crate::store::db::{Conn, Row, query, query_made};

/// Lines by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Lines {
    /// Name, amount and day agree.
    pub matched: u64,
    /// The amounts differ.
    pub amount_diff: u64,
    /// Theirs names nothing of ours.
    pub missing_ours: u64,
    /// Ours is in no file of theirs.
    pub missing_theirs: u64,
    /// Theirs repeats a name.
    pub duplicate: u64,
    /// Theirs belongs to the neighbouring day, and is tried again with that day's file.
    pub cutoff_slip: u64,
}

/// A day against the files of a source. `ours_fen` = `theirs_fen` + `suspense_fen`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Standing {
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// `statement` or `network`.
    pub source: &'static str,
    /// Lines of theirs and, where they are missing, of ours.
    pub lines: Lines,
    /// The sum of ours.
    #[schema(value_type = i64)]
    pub ours_fen: Fen,
    /// The sum of theirs that stands for this day: a line that is matched counts for the day that it names, any other for the
    /// day whose file it came in.
    #[schema(value_type = i64)]
    pub theirs_fen: Fen,
    /// What is not matched, ours less theirs.
    #[schema(value_type = i64)]
    pub suspense_fen: Fen,
    /// What of it a person has cleared, by ending its break.
    #[schema(value_type = i64)]
    pub cleared_fen: Fen,
    /// Whether ours is theirs and suspense. If not, something was changed that had been matched.
    pub balanced: bool,
}

/// Kinds of breaks by source, in the order of [`Kinds`]'s fields.
const STATEMENT: [&str; 6] = [
    "statement_amount",
    "statement_missing_ours",
    "statement_missing_theirs",
    "statement_duplicate",
    "statement_slip",
    "statement_sums",
];
const NETWORK: [&str; 6] = [
    "network_amount",
    "network_missing_ours",
    "network_missing_theirs",
    "network_duplicate",
    "network_slip",
    "network_sums",
];

/// The kinds of breaks of a source.
pub(super) const fn kinds(source: Source) -> &'static [&'static str; 6] {
    match source {
        Source::Statement => &STATEMENT,
        Source::Network => &NETWORK,
    }
}

/// A statement for a source: `{ours}` is the table of our items, `{is}` what makes a row of it an item, `{no}` the attempt.
fn of(source: Source, text: &str) -> String {
    let (ours, is, no) = match source {
        Source::Statement => ("attempts", "o.state = 'approved' AND o.amount_fen <> 0", "o.attempt_no"),
        Source::Network => ("charges", "o.part > 0", "0"),
    };
    text.replace("{ours}", ours).replace("{is}", is).replace("{no}", no)
}

/// Our items of a day that no line of theirs stands for; what comes before `FROM`, and what after.
macro_rules! missing_theirs {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "FROM {ours} AS o WHERE o.service_day = ? AND {is} AND NOT EXISTS (SELECT 1 FROM their_lines AS l \
             WHERE l.source = ? AND l.service_day = o.service_day AND l.token_key = o.token_key AND l.part = o.part \
             AND l.attempt_no = {no} AND l.copy = 0 AND l.state IN ('matched', 'amount_diff'))",
            $after
        )
    };
}

/// Count, sum of theirs and sum of ours.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: u64,
    theirs: Fen,
    ours: Fen,
}

fn sums(row: &Row, first: usize) -> Result<Sums, ClearingError> {
    Ok(Sums {
        count: row.try_get::<i64>(first)?.unsigned_abs(),
        theirs: Fen(row.try_get(first + 1)?),
        ours: Fen(row.try_get(first + 2)?),
    })
}

/// How a day stands, and its differences; what a person cleared is for the caller to add. One transaction of the caller's
/// sees all of it.
pub(super) async fn read_in(
    conn: &mut Conn,
    source: Source,
    day: ServiceDay,
) -> Result<(Standing, Found), ClearingError> {
    let of_day = Of { source, day };
    let ours: i64 = query_made(of(
        source,
        "SELECT CAST(COALESCE(SUM(o.amount_fen), 0) AS BIGINT) FROM {ours} AS o WHERE o.service_day = ? AND {is}",
    ))
    .bind(day.number())
    .scalar(&mut *conn)
    .await?;
    let missing = query_made(of(
        source,
        missing_theirs!("SELECT count(*), 0, CAST(COALESCE(SUM(o.amount_fen), 0) AS BIGINT) ", ""),
    ))
    .bind(day.number())
    .bind(source.word())
    .fetch_one(&mut *conn)
    .await?;
    let missing = sums(&missing, 0)?;
    let (matched, differs) = of_day.named_in(conn).await?;
    let [missing_ours, duplicate, slip] = of_day.unmatched_in(conn).await?;

    let theirs = [matched, differs, missing_ours, duplicate, slip].map(|sums| sums.theirs);
    let theirs = Fen::sum(theirs)?;
    let suspense = Fen::sum([missing.ours, differs.ours])?.minus(Fen::sum([
        differs.theirs,
        missing_ours.theirs,
        duplicate.theirs,
        slip.theirs,
    ])?)?;
    let ours = Fen(ours);
    let standing = Standing {
        service_day: day,
        source: source.word(),
        lines: Lines {
            matched: matched.count,
            amount_diff: differs.count,
            missing_ours: missing_ours.count,
            missing_theirs: missing.count,
            duplicate: duplicate.count,
            cutoff_slip: slip.count,
        },
        ours_fen: ours,
        theirs_fen: theirs,
        suspense_fen: suspense,
        cleared_fen: Fen::ZERO,
        balanced: ours == theirs.plus(suspense)?,
    };
    let found = of_day.differences_in(conn, &standing).await?;
    Ok((standing, found))
}

#[derive(Clone, Copy)]
struct Of {
    source: Source,
    day: ServiceDay,
}

impl Of {
    /// Lines that stand for items of the day: matched, and with another amount.
    async fn named_in(self, conn: &mut Conn) -> Result<(Sums, Sums), ClearingError> {
        let text = of(
            self.source,
            "SELECT l.state, count(*), CAST(COALESCE(SUM(l.amount_fen), 0) AS BIGINT), \
             CAST(COALESCE(SUM(o.amount_fen), 0) AS BIGINT) FROM their_lines AS l LEFT JOIN {ours} AS o \
             ON o.service_day = l.service_day AND o.token_key = l.token_key AND o.part = l.part \
             AND {no} = l.attempt_no AND {is} WHERE l.source = ? AND l.service_day = ? \
             AND l.state IN ('matched', 'amount_diff') GROUP BY l.state",
        );
        let rows = query_made(text).bind(self.source.word()).bind(self.day.number()).fetch_all(conn).await?;
        let (mut matched, mut differs) = (Sums::default(), Sums::default());
        for row in &rows {
            *(if row.try_get::<&str>(0)? == "matched" { &mut matched } else { &mut differs }) = sums(row, 1)?;
        }
        Ok((matched, differs))
    }

    /// Lines of the day's files that stand for nothing: missing ours, duplicates, slips.
    async fn unmatched_in(self, conn: &mut Conn) -> Result<[Sums; 3], ClearingError> {
        let rows = query(
            "SELECT state, count(*), CAST(COALESCE(SUM(amount_fen), 0) AS BIGINT), 0 FROM their_lines \
             WHERE source = ? AND file_day = ? AND state <> 'matched' AND state <> 'amount_diff' GROUP BY state",
        )
        .bind(self.source.word())
        .bind(self.day.number())
        .fetch_all(conn)
        .await?;
        let mut all = [Sums::default(); 3];
        for row in &rows {
            let at = match row.try_get::<&str>(0)? {
                "missing_ours" => 0,
                "duplicate" => 1,
                _ => 2,
            };
            all[at] = sums(row, 1)?;
        }
        Ok(all)
    }

    /// A difference for everything that is not matched, so many of each kind at most.
    async fn differences_in(self, conn: &mut Conn, standing: &Standing) -> Result<Found, ClearingError> {
        let [amount, missing_ours, missing_theirs, duplicate, slip, sums] = *kinds(self.source);
        let mut found = Found::default();
        let most = MAX_OF_A_KIND as i64;
        let subject = |name: Name| self.subject(name);

        let text = of(
            self.source,
            missing_theirs!(
                "SELECT o.service_day, o.token_key, o.part, {no}, o.amount_fen ",
                " ORDER BY o.token_key, o.part, 4 LIMIT ?"
            ),
        );
        let rows = query_made(text)
            .bind(self.day.number())
            .bind(self.source.word())
            .bind(most)
            .fetch_all(&mut *conn)
            .await?;
        for row in &rows {
            let fen: i64 = row.try_get(4)?;
            found.add_of(missing_theirs, subject(name_of(row)?), format!("ours {fen} fen"), Some(Fen(fen)));
        }

        let text = of(
            self.source,
            "SELECT l.service_day, l.token_key, l.part, l.attempt_no, l.amount_fen, COALESCE(o.amount_fen, 0) \
             FROM their_lines AS l LEFT JOIN {ours} AS o ON o.service_day = l.service_day \
             AND o.token_key = l.token_key AND o.part = l.part AND {no} = l.attempt_no AND {is} \
             WHERE l.source = ? AND l.service_day = ? AND l.state = 'amount_diff' AND l.state <> 'matched' \
             ORDER BY l.token_key, l.part, l.attempt_no LIMIT ?",
        );
        let rows = query_made(text)
            .bind(self.source.word())
            .bind(self.day.number())
            .bind(most)
            .fetch_all(&mut *conn)
            .await?;
        for row in &rows {
            let (theirs, ours): (i64, i64) = (row.try_get(4)?, row.try_get(5)?);
            let detail = format!("ours {ours} fen, theirs {theirs} fen");
            found.add_of(amount, subject(name_of(row)?), detail, Some(Fen(ours).minus(Fen(theirs))?));
        }

        for (kind, state, what) in [
            (missing_ours, "missing_ours", "names nothing of ours"),
            (duplicate, "duplicate", "repeats a name"),
            (slip, "cutoff_slip", "belongs to the neighbouring day"),
        ] {
            let rows = query(
                "SELECT service_day, token_key, part, attempt_no, amount_fen, number, copy FROM their_lines \
                 WHERE source = ? AND file_day = ? AND state = ? AND state <> 'matched' \
                 ORDER BY number, service_day, token_key, copy LIMIT ?",
            )
            .bind(self.source.word())
            .bind(self.day.number())
            .bind(state)
            .bind(most)
            .fetch_all(&mut *conn)
            .await?;
            for row in &rows {
                let (theirs, number): (i64, i64) = (row.try_get(4)?, row.try_get(5)?);
                let name = name_of(row)?;
                let line = format!("line {number} of theirs, {theirs} fen");
                let (subject, named_day) = match name.part {
                    0 => (format!("line {number}"), None),
                    _ => (subject(name), Some(name.day)),
                };
                let detail = match self.apart(name, row.try_get(6)?) {
                    Some(apart) => format!("{line}, {apart}, {what}"),
                    None => format!("{line}, {what}"),
                };
                found.add_line(kind, subject, detail, (Fen(theirs).negated()?, named_day));
            }
        }
        if !standing.balanced {
            let detail = format!(
                "ours {} fen, theirs {} fen, suspense {} fen",
                standing.ours_fen.0, standing.theirs_fen.0, standing.suspense_fen.0
            );
            found.add(sums, self.day.to_string(), detail);
        }
        for (kind, count) in [
            (amount, standing.lines.amount_diff),
            (missing_ours, standing.lines.missing_ours),
            (missing_theirs, standing.lines.missing_theirs),
            (duplicate, standing.lines.duplicate),
            (slip, standing.lines.cutoff_slip),
        ] {
            found.count(kind, usize::try_from(count).unwrap_or(usize::MAX));
        }
        Ok(found)
    }

    /// What tells a line apart from others that may have its subject, its place in a file and its amount: lines of another
    /// service day, or that repeat a name again, or of other files that name nothing.
    fn apart(self, name: Name, copy: i64) -> Option<String> {
        if name.part == 0 {
            return Some(crate::store::sql::hex(&name.token_key[..4]));
        }
        let other_day = (name.day != self.day.number()).then(|| {
            ServiceDay::from_number(name.day).map_or_else(|_| name.day.to_string(), |day| day.to_string())
        });
        let copy = (copy > 1).then(|| format!("copy {copy}"));
        let apart: Vec<String> = other_day.map(|day| format!("of {day}")).into_iter().chain(copy).collect();
        (!apart.is_empty()).then(|| apart.join(", "))
    }

    fn subject(self, name: Name) -> String {
        let token = crate::store::sql::hex(&name.token_key);
        match self.source {
            Source::Statement => format!("{token}-{}-{}", name.part, name.attempt),
            Source::Network => format!("{token}-{}", name.part),
        }
    }
}

/// The name in the first four columns of a row.
pub(super) fn name_of(row: &Row) -> Result<Name, ClearingError> {
    Ok(Name {
        day: row.try_get(0)?,
        token_key: token_key(row.try_get(1)?)?.0,
        part: row.try_get(2)?,
        attempt: row.try_get(3)?,
    })
}
