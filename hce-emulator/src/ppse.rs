//! The directory of a phone's applications: the answer to SELECT `2PAY.SYS.DDF01` (EMV Book B section 3.3.1).

use crate::application::CardData;
use wavepass_protocol::apdu::PPSE;
use wavepass_protocol::tags;
use wavepass_protocol::tlv::{TlvError, Writer};

/// Writes the directory: identifier, label and priority of each application, in order. At most 4 entries of at
/// most 40 bytes fit any short answer.
pub fn directory<'a>(applications: impl Iterator<Item = &'a CardData>) -> Result<Vec<u8>, TlvError> {
    let mut buf = [0; 256];
    let mut out = Writer::new(&mut buf);
    let mut entries = Vec::new();
    for card in applications {
        let mut buf = [0; 64];
        let mut w = Writer::new(&mut buf);
        w.nested(tags::DIRECTORY_ENTRY, |w| {
            w.tlv(tags::ADF_NAME, card.aid.as_slice())?;
            w.tlv(tags::APPLICATION_LABEL, card.label.as_bytes())?;
            w.tlv(tags::PRIORITY, &[card.priority])
        })?;
        entries.extend_from_slice(w.finish());
    }
    out.nested(tags::FCI, |w| {
        w.tlv(tags::DF_NAME, PPSE)?;
        w.nested(tags::FCI_PROPRIETARY, |w| w.tlv(tags::FCI_DISCRETIONARY, &entries))
    })?;
    Ok(out.finish().to_vec())
}
