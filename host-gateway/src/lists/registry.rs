//! What the CA key, revocation and configuration lists are made from.

use super::ListsError;
use crate::keys::OwnedCaKey;
use crate::store::StoreError;
use sqlx::{Row, SqliteConnection};
use wavepass_hce::issue::{HOUSE_AID, RSA_CREDIT_AID, RSA_DEBIT_AID, RSA_QUASI_CREDIT_AID};
use wavepass_protocol::lists::{Application, GateConfig, ListError, MAX_REVOCATIONS, Revocation, Suite};

/// The most CA keys that are published: a gate keeps them in memory.
pub const MAX_CA_KEYS: usize = 32;

const fn suite_word(suite: Suite) -> &'static str {
    match suite {
        Suite::P256 => "p256",
        Suite::Rsa => "rsa",
        Suite::Sm2 => "sm2",
    }
}

/// Enters CA keys, or puts them in place of those of the same RID, index and suite. A key whose check value differs
/// is refused, and then none is entered.
pub async fn set_ca_keys_in(conn: &mut SqliteConnection, keys: &[OwnedCaKey]) -> Result<(), ListsError> {
    if keys.iter().any(|key| !key.as_ca_key().check_value_matches()) {
        return Err(ListError::CheckValue.into());
    }
    if keys.iter().any(|key| key.as_ca_key().last_day().is_none()) {
        return Err(ListError::Content.into());
    }
    for key in keys {
        sqlx::query(
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
    if ca_keys_in(conn).await?.len() > MAX_CA_KEYS {
        return Err(ListsError::TooMany { what: "CA keys", most: MAX_CA_KEYS });
    }
    Ok(())
}

/// Every CA key, by RID, index and suite.
pub async fn ca_keys_in(conn: &mut SqliteConnection) -> Result<Vec<OwnedCaKey>, ListsError> {
    let damaged = || StoreError::Damaged { what: "CA key" };
    let rows = sqlx::query("SELECT * FROM ca_keys ORDER BY rid, key_index, suite").fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let word: &str = row.try_get("suite")?;
            let suite = [Suite::P256, Suite::Rsa, Suite::Sm2].into_iter().find(|s| suite_word(*s) == word);
            Ok(OwnedCaKey {
                rid: row.try_get::<&[u8], _>("rid")?.try_into().map_err(|_| damaged())?,
                index: row.try_get("key_index")?,
                suite: suite.ok_or_else(damaged)?,
                expiry: row.try_get::<&[u8], _>("expiry")?.try_into().map_err(|_| damaged())?,
                key: row.try_get("public_key")?,
                exponent: row.try_get("exponent")?,
                check_value: row.try_get::<&[u8], _>("check_value")?.try_into().map_err(|_| damaged())?,
            })
        })
        .collect()
}

/// Revokes issuer certificates.
pub async fn revoke_in(conn: &mut SqliteConnection, revocations: &[Revocation]) -> Result<(), ListsError> {
    for revocation in revocations {
        sqlx::query("INSERT OR IGNORE INTO revocations (rid, key_index, serial) VALUES (?, ?, ?)")
            .bind(revocation.rid.as_slice())
            .bind(revocation.index)
            .bind(revocation.serial.as_slice())
            .execute(&mut *conn)
            .await?;
    }
    if revocations_in(conn).await?.len() > MAX_REVOCATIONS {
        return Err(ListsError::TooMany { what: "revocations", most: MAX_REVOCATIONS });
    }
    Ok(())
}

/// Every revocation, in order.
pub async fn revocations_in(conn: &mut SqliteConnection) -> Result<Vec<Revocation>, ListsError> {
    let damaged = || StoreError::Damaged { what: "revocation" };
    let rows =
        sqlx::query("SELECT * FROM revocations ORDER BY rid, key_index, serial").fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(Revocation {
                rid: row.try_get::<&[u8], _>("rid")?.try_into().map_err(|_| damaged())?,
                index: row.try_get("key_index")?,
                serial: row.try_get::<&[u8], _>("serial")?.try_into().map_err(|_| damaged())?,
            })
        })
        .collect()
}

/// Sets how gates work.
pub async fn set_config_in(conn: &mut SqliteConnection, config: &GateConfig) -> Result<(), ListsError> {
    let content = encode(config)?;
    GateConfig::parse(&content)?;
    sqlx::query("INSERT INTO gate_config (only, content) VALUES (1, ?) ON CONFLICT (only) DO UPDATE SET content = excluded.content")
        .bind(content)
        .execute(conn)
        .await?;
    Ok(())
}

/// How gates work; [`default_config`] where nothing was set.
pub async fn config_in(conn: &mut SqliteConnection) -> Result<GateConfig, ListsError> {
    let content: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT content FROM gate_config WHERE only = 1").fetch_optional(conn).await?;
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
