//! The registry of gates: who they are, where they stand, and which key id their taps are sealed under.
//!
//! A gate is commissioned once, into its provisioning file. Its keys derive from clearing's; the registry holds none.
//! A gate that is commissioned again after it was retired gets the next generation, and with it new keys.

pub mod cli;

use crate::keys::{ClearingKeys, GateIdentity};
use crate::store::db::{Conn, Row, query};
use crate::store::{Audit, StoreError, audit_in, sql};
use std::collections::HashMap;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::provisioning::ProvisioningError;
use wavepass_protocol::tap::Direction;
use wavepass_protocol::time::UnixMs;
use zeroize::Zeroizing;

/// The most generations a gate can have: two bytes of its key id count them.
const MAX_GENERATION: u32 = 65_535;

/// Why a gate cannot be commissioned or retired.
#[derive(Debug, thiserror::Error)]
pub enum GatesError {
    /// The number 0 stands for no gate.
    #[error("a gate's number is 1 or more")]
    Zero,
    /// It is in service; its provisioning file is written once.
    #[error("gate {0} is in service; retire it before it is commissioned again")]
    InService(u32),
    /// No gate of that number is in service.
    #[error("no gate {0} is in service")]
    Unknown(u32),
    /// It has been commissioned more often than key ids can tell.
    #[error("gate {0} has used up its key ids; give it another number")]
    Exhausted(u32),
    /// Its station or network cannot be provisioned.
    #[error(transparent)]
    Provisioning(#[from] ProvisioningError),
    /// Text that may hold a card's number.
    #[error(transparent)]
    Text(#[from] crate::input::TextError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for GatesError {
    fn from(e: sqlx::Error) -> Self {
        Self::Store(e.into())
    }
}

/// A gate to be commissioned.
#[derive(Debug, Clone)]
pub struct NewGate {
    /// Its number, from 1.
    pub gate_id: u32,
    /// Station code: 1 to 16 printable ASCII characters.
    pub station: String,
    /// Which way it lets riders through.
    pub direction: Direction,
    /// Whose gate it is.
    pub operator: u16,
    /// Which network it belongs to.
    pub network: [u8; 4],
}

/// A gate in one of its generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Its number.
    pub gate_id: u32,
    /// The id of its initial key.
    pub key_id: KeyId,
    /// How often it has been commissioned, this time included.
    pub generation: u32,
    /// Station code.
    pub station: String,
    /// Which way it lets riders through.
    pub direction: Direction,
    /// Whose gate it is.
    pub operator: u16,
    /// Which network it belongs to.
    pub network: [u8; 4],
    /// When it was commissioned.
    pub added: UnixMs,
    /// When it was retired.
    pub retired: Option<UnixMs>,
}

/// The key id of a gate's generation: `WP` | generation 2 | gate number 4, big-endian. Key derivation uses the right
/// half alone below the initial key, and the whole for the initial key, so every generation has keys of its own.
pub fn key_id(gate_id: u32, generation: u32) -> KeyId {
    let [_, _, g1, g0] = generation.to_be_bytes();
    let [a, b, c, d] = gate_id.to_be_bytes();
    KeyId([b'W', b'P', g1, g0, a, b, c, d])
}

/// Commissions a gate: enters it, and gives the provisioning file, which is made this once.
pub async fn add_in(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    new: &NewGate,
    by: &str,
    now: UnixMs,
) -> Result<(Gate, Zeroizing<Vec<u8>>), GatesError> {
    if new.gate_id == 0 {
        return Err(GatesError::Zero);
    }
    crate::input::no_number("a station's code", &new.station)?;
    let (last, in_service): (Option<u32>, i64) =
        query("SELECT max(generation), count(*) - count(retired_ms) FROM gates WHERE gate_id = ?")
            .bind(new.gate_id)
            .row(&mut *conn)
            .await?;
    if in_service > 0 {
        return Err(GatesError::InService(new.gate_id));
    }
    let generation = last.unwrap_or(0) + 1;
    if generation > MAX_GENERATION {
        return Err(GatesError::Exhausted(new.gate_id));
    }
    let gate = Gate {
        gate_id: new.gate_id,
        key_id: key_id(new.gate_id, generation),
        generation,
        station: new.station.clone(),
        direction: new.direction,
        operator: new.operator,
        network: new.network,
        added: now,
        retired: None,
    };
    let file = keys.provision(&GateIdentity {
        gate_id: gate.gate_id,
        key_id: gate.key_id,
        station: &gate.station,
        direction: gate.direction,
        operator: gate.operator,
        network: gate.network,
    })?;
    query(
        "INSERT INTO gates (gate_id, generation, key_id, station, direction, operator, network, added_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(gate.gate_id)
    .bind(gate.generation)
    .bind(gate.key_id.0.as_slice())
    .bind(&gate.station)
    .bind(gate.direction as u8)
    .bind(gate.operator)
    .bind(gate.network.as_slice())
    .bind(sql::ms(now))
    .execute(&mut *conn)
    .await?;
    audit(conn, "gate.add", &gate, by, now).await?;
    Ok((gate, file))
}

/// Takes a gate out of service. What it sealed before still opens and counts; it is not served any more.
pub async fn retire_in(conn: &mut Conn, gate_id: u32, by: &str, now: UnixMs) -> Result<Gate, GatesError> {
    let row = query("UPDATE gates SET retired_ms = ? WHERE gate_id = ? AND retired_ms IS NULL RETURNING *")
        .bind(sql::ms(now))
        .bind(gate_id)
        .fetch_optional(&mut *conn)
        .await?
        .ok_or(GatesError::Unknown(gate_id))?;
    let gate = gate_of(&row)?;
    audit(conn, "gate.retire", &gate, by, now).await?;
    Ok(gate)
}

async fn audit(conn: &mut Conn, action: &str, gate: &Gate, by: &str, at: UnixMs) -> Result<(), StoreError> {
    let detail =
        format!("station {} generation {} operator {}", gate.station, gate.generation, gate.operator);
    audit_in(conn, &Audit { at, user: by, action, subject: &gate.gate_id.to_string(), detail: &detail }).await
}

/// Every gate in every generation, by number.
pub async fn all_in(conn: &mut Conn) -> Result<Vec<Gate>, GatesError> {
    let rows = query("SELECT * FROM gates ORDER BY gate_id, generation").fetch_all(conn).await?;
    rows.iter().map(gate_of).collect()
}

fn gate_of(row: &Row) -> Result<Gate, GatesError> {
    let damaged = || StoreError::Damaged { what: "gate" };
    let direction = match row.try_get::<u8>("direction")? {
        0 => Direction::Entry,
        1 => Direction::Exit,
        2 => Direction::Single,
        _ => return Err(damaged().into()),
    };
    Ok(Gate {
        gate_id: row.try_get("gate_id")?,
        key_id: KeyId(row.try_get::<&[u8]>("key_id")?.try_into().map_err(|_| damaged())?),
        generation: row.try_get("generation")?,
        station: row.try_get("station")?,
        direction,
        operator: row.try_get("operator")?,
        network: row.try_get::<&[u8]>("network")?.try_into().map_err(|_| damaged())?,
        // Written from a UnixMs, never negative.
        added: UnixMs(row.try_get::<i64>("added_ms")?.unsigned_abs()),
        retired: row.try_get::<Option<i64>>("retired_ms")?.map(|ms| UnixMs(ms.unsigned_abs())),
    })
}

/// All gates in memory, as intake and the link server look them up.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    by_key: HashMap<KeyId, Gate>,
    in_service: HashMap<u32, KeyId>,
}

impl Directory {
    /// Reads the registry.
    pub async fn load(conn: &mut Conn) -> Result<Self, GatesError> {
        let mut directory = Self::default();
        for gate in all_in(conn).await? {
            if gate.retired.is_none() {
                directory.in_service.insert(gate.gate_id, gate.key_id);
            }
            directory.by_key.insert(gate.key_id, gate);
        }
        Ok(directory)
    }

    /// The gate in service under this number.
    pub fn by_id(&self, gate_id: u32) -> Option<&Gate> {
        self.by_key.get(self.in_service.get(&gate_id)?)
    }

    /// The gate that seals under this key id, retired ones included: late taps still come in.
    pub fn by_key(&self, key_id: KeyId) -> Option<&Gate> {
        self.by_key.get(&key_id)
    }

    /// Gates in service, in no order.
    pub fn in_service(&self) -> impl Iterator<Item = &Gate> {
        self.in_service.values().filter_map(|key_id| self.by_key.get(key_id))
    }
}

#[cfg(test)]
mod tests;
