//! `wavepass-gateway deny | gate-config | revocation | ca-key`: what gates are told, set by an operator.

pub mod ca_key;
pub mod deny;
pub mod gate_config;
pub mod revocation;

use crate::cli::{App, CommandError};
use clap::builder::ValueParser;
use wavepass_hce::hex;
use wavepass_protocol::lists::Kind;

/// Publishes what has changed; the new version of a list, as it is told.
async fn publish(app: &App, kind: Kind) -> Result<String, CommandError> {
    let published = app.publish_lists().await?;
    let version = published.into_iter().find(|(of, _)| *of == kind).map(|(_, version)| version);
    Ok(match version {
        Some(version) => format!("published as version {} of epoch {}", version.version, version.epoch),
        None => "no gate's list changes".into(),
    })
}

/// Reads so many bytes in hexadecimal.
fn bytes<const N: usize>() -> ValueParser {
    ValueParser::new(|text: &str| {
        let bytes = hex::decode(text).ok().and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
        bytes.ok_or_else(|| format!("{} hexadecimal digits", 2 * N))
    })
}
