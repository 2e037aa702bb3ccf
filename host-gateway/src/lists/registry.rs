//! What the CA key, revocation and configuration lists are made from.

use super::deny::MAX_NOTE;
use super::{ListsError, append, gate_config};
use crate::keys::OwnedCaKey;
use crate::store::db::{Conn, query};
use crate::store::{Audit, StoreError, audit_in, sql};
use sha2::{Digest, Sha256};
use wavepass_hce::hex;
use wavepass_hce::issue::{HOUSE_AID, RSA_CREDIT_AID, RSA_DEBIT_AID, RSA_QUASI_CREDIT_AID};
use wavepass_protocol::lists::{
    Application, GateConfig, ListError, MAX_ISSUE, MAX_REVOCATIONS, PREFIX, Revocation, Suite, check_ca_keys,
};
use wavepass_protocol::time::UnixMs;

/// The most CA keys that are published: a gate keeps them in memory.
pub const MAX_CA_KEYS: usize = 32;

/// The word for a suite, in the store and on screens.
pub const fn suite_word(suite: Suite) -> &'static str {
    match suite {
        Suite::P256 => "p256",
        Suite::Rsa => "rsa",
        Suite::Sm2 => "sm2",
    }
}

/// Enters CA keys, or puts them in place of those of the same RID, index and suite. A key whose check value differs
/// is refused, and then none is entered.
pub async fn set_ca_keys_in(conn: &mut Conn, keys: &[OwnedCaKey]) -> Result<(), ListsError> {
    if keys.iter().any(|key| !key.as_ca_key().check_value_matches()) {
        return Err(ListError::CheckValue.into());
    }
    if keys.iter().any(|key| key.as_ca_key().last_day().is_none()) {
        return Err(ListError::Content.into());
    }
    for key in keys {
        query(
            "INSERT INTO ca_keys (rid, key_index, suite, expiry, public_key, exponent, check_value) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (rid, key_index, suite) DO UPDATE SET \
             expiry = excluded.expiry, public_key = excluded.public_key, exponent = excluded.exponent, \
             check_value = excluded.check_value",
        )
        .bind(key.rid.as_slice())
        .bind(key.index)
        .bind(suite_word(key.suite))
        .bind(key.expiry.as_slice())
        .bind(key.key.as_slice())
        .bind(key.exponent.as_slice())
        .bind(key.check_value.as_slice())
        .execute(&mut *conn)
        .await?;
    }
    let keys = ca_keys_in(conn).await?;
    if keys.len() > MAX_CA_KEYS {
        return Err(ListsError::TooMany { what: "CA keys", most: MAX_CA_KEYS });
    }
    ca_key_content(&keys).map(drop)
}

/// The content of a CA key list; an error if no gate would take it.
pub(super) fn ca_key_content(keys: &[OwnedCaKey]) -> Result<Vec<u8>, ListsError> {
    const MOST: usize = MAX_ISSUE - PREFIX;
    let mut content = Vec::new();
    for key in keys {
        append(&mut content, &key.as_ca_key())?;
    }
    check_ca_keys(&content)?;
    if content.len() > MOST {
        return Err(ListsError::Room { bytes: content.len(), most: MOST });
    }
    Ok(content)
}

/// Gives a house that has no CA key its own bank's. Its gates would take no card otherwise.
pub async fn adopt_ca_keys_in(conn: &mut Conn, own: &[OwnedCaKey]) -> Result<(), ListsError> {
    if ca_keys_in(conn).await?.is_empty() {
        set_ca_keys_in(conn, own).await?;
    }
    Ok(())
}

/// Enters CA keys as [`set_ca_keys_in`] does, in somebody's name; those that were not there just so.
pub async fn add_ca_keys_in(
    conn: &mut Conn,
    keys: &[OwnedCaKey],
    by: &str,
    now: UnixMs,
) -> Result<Vec<OwnedCaKey>, ListsError> {
    let before = ca_keys_in(conn).await?;
    let new: Vec<_> = keys.iter().filter(|key| !before.contains(key)).cloned().collect();
    set_ca_keys_in(conn, &new).await?;
    for key in &new {
        let detail = format!("{}, check value {}", suite_word(key.suite), hex::encode(&key.check_value));
        let subject = subject(&key.rid, key.index);
        audit_in(
            conn,
            &Audit { at: now, user: by, action: "ca_key.add", subject: &subject, detail: &detail },
        )
        .await?;
    }
    Ok(new)
}

/// Takes a CA key away; false if there was none.
pub async fn remove_ca_key_in(
    conn: &mut Conn,
    (rid, index, suite): (&[u8; 5], u8, Suite),
    by: &str,
    now: UnixMs,
) -> Result<bool, ListsError> {
    let changed = query("DELETE FROM ca_keys WHERE rid = ? AND key_index = ? AND suite = ?")
        .bind(rid.as_slice())
        .bind(index)
        .bind(suite_word(suite))
        .execute(&mut *conn)
        .await?;
    let removed = changed > 0;
    if removed {
        let (subject, detail) = (subject(rid, index), suite_word(suite));
        audit_in(conn, &Audit { at: now, user: by, action: "ca_key.remove", subject: &subject, detail })
            .await?;
    }
    Ok(removed)
}

/// A CA key, as the audit log names it.
fn subject(rid: &[u8; 5], index: u8) -> String {
    format!("{} {index:02X}", hex::encode(rid))
}

/// Every CA key, by RID, index and suite.
pub async fn ca_keys_in(conn: &mut Conn) -> Result<Vec<OwnedCaKey>, ListsError> {
    let damaged = || StoreError::Damaged { what: "CA key" };
    let rows = query("SELECT * FROM ca_keys ORDER BY rid, key_index, suite").fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let word: &str = row.try_get("suite")?;
            let suite = [Suite::P256, Suite::Rsa, Suite::Sm2].into_iter().find(|s| suite_word(*s) == word);
            Ok(OwnedCaKey {
                rid: row.try_get::<&[u8]>("rid")?.try_into().map_err(|_| damaged())?,
                index: row.try_get("key_index")?,
                suite: suite.ok_or_else(damaged)?,
                expiry: row.try_get::<&[u8]>("expiry")?.try_into().map_err(|_| damaged())?,
                key: row.try_get("public_key")?,
                exponent: row.try_get("exponent")?,
                check_value: row.try_get::<&[u8]>("check_value")?.try_into().map_err(|_| damaged())?,
            })
        })
        .collect()
}

/// Revokes an issuer certificate; false if it was revoked already, and then it stays as it was.
pub async fn revoke_in(
    conn: &mut Conn,
    revocation: &Revocation,
    by: &str,
    note: &str,
    now: UnixMs,
) -> Result<bool, ListsError> {
    if note.len() > MAX_NOTE {
        return Err(ListsError::Note);
    }
    let new = query(
        "INSERT INTO revocations (rid, key_index, serial, since_ms, by, note) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(revocation.rid.as_slice())
    .bind(revocation.index)
    .bind(revocation.serial.as_slice())
    .bind(sql::ms(now))
    .bind(by)
    .bind(note)
    .execute(&mut *conn)
    .await?;
    if new == 0 {
        return Ok(false);
    }
    if revocations_in(conn).await?.len() > MAX_REVOCATIONS {
        return Err(ListsError::TooMany { what: "revocations", most: MAX_REVOCATIONS });
    }
    audit_revocation(conn, "revocation.add", revocation, by, note, now).await?;
    Ok(true)
}

/// Lifts a revocation; false if there was none.
pub async fn lift_in(
    conn: &mut Conn,
    revocation: &Revocation,
    by: &str,
    note: &str,
    now: UnixMs,
) -> Result<bool, ListsError> {
    if note.len() > MAX_NOTE {
        return Err(ListsError::Note);
    }
    let changed = query("DELETE FROM revocations WHERE rid = ? AND key_index = ? AND serial = ?")
        .bind(revocation.rid.as_slice())
        .bind(revocation.index)
        .bind(revocation.serial.as_slice())
        .execute(&mut *conn)
        .await?;
    let lifted = changed > 0;
    if lifted {
        audit_revocation(conn, "revocation.remove", revocation, by, note, now).await?;
    }
    Ok(lifted)
}

async fn audit_revocation(
    conn: &mut Conn,
    action: &str,
    revocation: &Revocation,
    by: &str,
    note: &str,
    at: UnixMs,
) -> Result<(), StoreError> {
    let subject =
        format!("{} {}", subject(&revocation.rid, revocation.index), hex::encode(&revocation.serial));
    audit_in(conn, &Audit { at, user: by, action, subject: &subject, detail: note }).await
}

/// A revocation, and who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationRow {
    /// Which issuer certificate.
    pub revocation: Revocation,
    /// Since when; 0 where it was not noted.
    pub since: UnixMs,
    /// Who did it.
    pub by: String,
    /// Anything more.
    pub note: String,
}

/// Every revocation, in order.
pub async fn revocations_in(conn: &mut Conn) -> Result<Vec<RevocationRow>, ListsError> {
    let damaged = || StoreError::Damaged { what: "revocation" };
    let rows = query("SELECT * FROM revocations ORDER BY rid, key_index, serial").fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(RevocationRow {
                revocation: Revocation {
                    rid: row.try_get::<&[u8]>("rid")?.try_into().map_err(|_| damaged())?,
                    index: row.try_get("key_index")?,
                    serial: row.try_get::<&[u8]>("serial")?.try_into().map_err(|_| damaged())?,
                },
                // Written from a UnixMs, never negative.
                since: UnixMs(row.try_get::<i64>("since_ms")?.unsigned_abs()),
                by: row.try_get("by")?,
                note: row.try_get("note")?,
            })
        })
        .collect()
}

/// Sets how gates work.
pub async fn set_config_in(conn: &mut Conn, config: &GateConfig) -> Result<(), ListsError> {
    let content = check_config(config)?;
    query("INSERT INTO gate_config (\"only\", content) VALUES (1, ?) ON CONFLICT (\"only\") DO UPDATE SET content = excluded.content")
        .bind(content)
        .execute(conn)
        .await?;
    Ok(())
}

/// Sets how gates work, in somebody's name. Gives what has changed, by the names of the operator's file.
pub async fn change_config_in(
    conn: &mut Conn,
    config: &GateConfig,
    by: &str,
    now: UnixMs,
) -> Result<Vec<&'static str>, ListsError> {
    let changed = gate_config::differences(&config_in(conn).await?, config);
    if !changed.is_empty() {
        set_config_in(conn, config).await?;
        let hash = hex::encode(&Sha256::digest(encode(config)?)[..8]);
        let detail = format!("{}; sha256 {hash}", changed.join(", "));
        let line = Audit { at: now, user: by, action: "config.set", subject: "gates", detail: &detail };
        audit_in(conn, &line).await?;
    }
    Ok(changed)
}

/// Checks a configuration as a gate does; gives the content of its list.
pub(super) fn check_config(config: &GateConfig) -> Result<Vec<u8>, ListsError> {
    let content = encode(config)?;
    GateConfig::parse(&content)?;
    // Network and operator are each gate's own.
    wavepass_kernel::Config::new(config, [0; 4], 0)?;
    Ok(content)
}

/// How gates work; [`default_config`] where nothing was set.
pub async fn config_in(conn: &mut Conn) -> Result<GateConfig, ListsError> {
    let content: Option<Vec<u8>> =
        query("SELECT content FROM gate_config WHERE \"only\" = 1").optional(conn).await?;
    match content {
        Some(content) => Ok(GateConfig::parse(&content)?),
        None => Ok(default_config()),
    }
}

/// The longest configuration, bytes: eight applications at their limits take about 300.
const MAX_CONFIG: usize = 1024;

pub(super) fn encode(config: &GateConfig) -> Result<Vec<u8>, ListsError> {
    let mut buffer = [0; MAX_CONFIG];
    Ok(postcard::to_slice(config, &mut buffer).map_err(|_| ListError::Content)?.to_vec())
}

/// The house's configuration: its own token and the RSA cards in circulation, in China's time and money.
pub fn default_config() -> GateConfig {
    // Online-ODA at a gate, with fDDA version 01 (docs/formats.md, terminal transaction qualifiers).
    const TTQ: [u8; 4] = [0x21, 0x80, 0x00, 0x80];
    let application = |aid: &[u8], suite, preference| Application {
        aid: bounded(aid),
        partial: suite == Suite::Rsa,
        suite,
        ttq: TTQ,
        preference,
        // Sources disagree on the format with an ARQC, so both are accepted; the P-256 suite has no such byte.
        formats: bounded(if suite == Suite::Rsa { &[0x05, 0x95] } else { &[] }),
        domain_required: suite == Suite::P256,
    };
    let applications = [
        application(HOUSE_AID, Suite::P256, 1),
        application(RSA_DEBIT_AID, Suite::Rsa, 2),
        application(RSA_CREDIT_AID, Suite::Rsa, 3),
        application(RSA_QUASI_CREDIT_AID, Suite::Rsa, 4),
    ];
    GateConfig {
        utc_offset_min: 480,
        amount_fen: 100,
        currency: 0x0156,
        country: 0x0156,
        passback_ms: 5 * 60_000,
        tap_limit_ms: 1_000,
        list_max_age_ms: 72 * 3_600_000,
        stale_opens: false,
        applications: applications.into_iter().collect(),
        // A limit is calibrated with the reader at hand, so there is none from here.
        relay: None,
    }
}

// The gate's own bounded vector; what is longer than it holds is cut, and no constant above is.
fn bounded<const N: usize>(bytes: &[u8]) -> heapless::Vec<u8, N> {
    bytes.iter().take(N).copied().collect()
}
