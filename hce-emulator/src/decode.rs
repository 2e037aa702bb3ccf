//! APDUs as people read them: names of commands, tags and status words.
//!
//! Nothing that identifies a rider is shown: of a token the last four digits, of certificates, signatures and track
//! data their length.

use std::fmt::Write as _;
use wavepass_protocol::apdu::{Command, Response, Status};
use wavepass_protocol::tags;
use wavepass_protocol::tlv::{self, Tag, Tlv};
use wavepass_protocol::token::Token;

/// How deep templates are followed.
const MAX_DEPTH: usize = 4;
/// The most TLVs shown of one answer.
const MAX_SHOWN: usize = 64;

/// The name of a tag; `None` for one that this stack does not use.
pub const fn tag_name(tag: Tag) -> Option<&'static str> {
    Some(match tag {
        tags::ADF_NAME => "application identifier",
        tags::APPLICATION_LABEL => "label",
        tags::TRACK2 => "track 2 equivalent data",
        tags::PAN => "token",
        tags::DIRECTORY_ENTRY => "directory entry",
        tags::FCI => "FCI template",
        tags::RECORD => "record",
        tags::RESPONSE_2 => "response",
        tags::AIP => "application interchange profile",
        tags::COMMAND_TEMPLATE => "command template",
        tags::DF_NAME => "DF name",
        tags::PRIORITY => "priority",
        tags::CA_INDEX => "CA key index",
        tags::ISSUER_CERTIFICATE => "issuer certificate",
        tags::ISSUER_REMAINDER => "issuer key remainder",
        tags::AFL => "application file locator",
        tags::FCI_PROPRIETARY => "FCI proprietary template",
        tags::FCI_DISCRETIONARY => "FCI discretionary data",
        tags::EXPIRY_DATE => "expiry date",
        tags::EFFECTIVE_DATE => "effective date",
        tags::ISSUER_COUNTRY => "issuer country",
        tags::PSN => "sequence number",
        tags::AUC => "usage control",
        tags::IAD => "issuer application data",
        tags::CRYPTOGRAM => "cryptogram",
        tags::CID => "cryptogram information",
        tags::KERNEL_ID => "kernel identifier",
        tags::ISSUER_EXPONENT => "issuer key exponent",
        tags::ATC => "transaction counter",
        tags::PDOL => "PDOL",
        tags::CARD_CERTIFICATE => "card certificate",
        tags::CARD_EXPONENT => "card key exponent",
        tags::CARD_REMAINDER => "card key remainder",
        tags::SDA_TAG_LIST => "signed tag list",
        tags::SDAD => "dynamic signature",
        tags::CARD_AUTHENTICATION_DATA => "card authentication data",
        tags::CTQ => "card transaction qualifiers",
        tags::CARD_SUPPORTS => "card features",
        tags::DOMAIN => "token domain",
        _ => return None,
    })
}

/// True if a tag's value tells riders apart or is too long to be worth reading.
const fn is_hidden(tag: Tag) -> bool {
    matches!(
        tag,
        tags::TRACK2
            | tags::ISSUER_CERTIFICATE
            | tags::ISSUER_REMAINDER
            | tags::CARD_CERTIFICATE
            | tags::CARD_REMAINDER
            | tags::SDAD
    ) || tag_name(tag).is_none()
}

/// One line for a command.
pub fn command(bytes: &[u8]) -> String {
    let Ok(command) = Command::parse(bytes) else {
        return format!("malformed command of {} bytes", bytes.len());
    };
    match (command.cla, command.ins) {
        (0x00, 0xA4) => match std::str::from_utf8(command.data) {
            Ok(name) if name.is_ascii() && !name.contains(char::is_control) => format!("SELECT {name}"),
            _ => format!("SELECT {}", crate::hex::encode(command.data)),
        },
        (0x80, 0xA8) => format!("GET PROCESSING OPTIONS, {} bytes", command.data.len()),
        (0x00, 0xB2) => format!("READ RECORD {} of file {}", command.p1, command.p2 >> 3),
        (0x00, 0xC0) => "GET RESPONSE".to_owned(),
        (0x00, 0x88) => format!("INTERNAL AUTHENTICATE, {} bytes", command.data.len()),
        (0x80, 0xAE) => format!("GENERATE AC {:02X}, {} bytes", command.p1, command.data.len()),
        (cla, ins) => format!("command {cla:02X} {ins:02X}, {} bytes", command.data.len()),
    }
}

/// Lines for an answer: the status word, then the TLVs, indented by their depth.
pub fn answer(bytes: &[u8]) -> Vec<String> {
    let Ok(Response { data, status }) = Response::parse(bytes) else {
        return vec![format!("no status word, {} bytes", bytes.len())];
    };
    let mut lines = vec![format!("{:04X} {}", u16::from(status), status_name(status))];
    tlvs(data, 1, &mut lines);
    lines
}

fn tlvs(data: &[u8], depth: usize, lines: &mut Vec<String>) {
    for tlv in tlv::iter(data) {
        if lines.len() > MAX_SHOWN {
            return;
        }
        let indent = "  ".repeat(depth);
        match tlv {
            Ok(tlv) => {
                lines.push(format!("{indent}{}", one(&tlv)));
                if tlv.tag.is_constructed() && depth < MAX_DEPTH {
                    tlvs(tlv.value, depth + 1, lines);
                }
            }
            Err(e) => lines.push(format!("{indent}{} bytes that are no TLVs: {e}", data.len())),
        }
    }
}

fn one(tlv: &Tlv<'_>) -> String {
    let mut line = format!("{} {}", tlv.tag, tag_name(tlv.tag).unwrap_or("(unknown)"));
    // Writing to a string does not fail.
    let _ = if tlv.tag == tags::PAN {
        match Token::from_bcd(tlv.value) {
            Ok(token) => write!(line, ": {}", token.last_four()),
            Err(e) => write!(line, ": {e}"),
        }
    } else if tlv.tag.is_constructed() {
        Ok(())
    } else if tlv.tag == tags::APPLICATION_LABEL {
        write!(line, ": {}", tlv.value.escape_ascii())
    } else if is_hidden(tlv.tag) {
        write!(line, ": {} bytes", tlv.value.len())
    } else {
        write!(line, ": {}", crate::hex::encode(tlv.value))
    };
    line
}

const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Success => "success",
        Status::MoreData(_) => "more data",
        Status::SelectedFileInvalid => "application blocked",
        Status::WrongLength => "wrong length",
        Status::SecurityNotSatisfied => "security status not satisfied",
        Status::AuthenticationBlocked => "authentication blocked",
        Status::ConditionsNotSatisfied => "conditions not satisfied",
        Status::CommandNotAllowed => "not allowed: see phone",
        Status::WrongData => "wrong data",
        Status::NotSupported => "not supported",
        Status::FileNotFound => "no such application",
        Status::RecordNotFound => "no such record",
        Status::WrongParameters => "wrong parameters",
        Status::ReferencedDataNotFound => "no such data",
        Status::WrongLe(_) => "other length",
        Status::InstructionNotSupported => "unknown instruction",
        Status::ClassNotSupported => "unknown class",
        Status::NoDiagnosis => "failure",
        _ => "unknown status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_named() {
        assert_eq!(command(b"\x00\xA4\x04\x00\x0E2PAY.SYS.DDF01\x00"), "SELECT 2PAY.SYS.DDF01");
        assert_eq!(command(&[0x00, 0xB2, 0x01, 0x14, 0x00]), "READ RECORD 1 of file 2");
        assert_eq!(command(&[0x00, 0xB2]), "malformed command of 2 bytes");
    }

    #[test]
    fn of_a_token_the_last_four_digits_are_shown() {
        let record =
            [0x70, 0x0E, 0x5A, 8, 0x62, 0x99, 0, 1, 0x23, 0x45, 0x67, 0x89, 0x57, 2, 0x62, 0x99, 0x90, 0];
        let lines = answer(&record);
        assert_eq!(
            lines,
            ["9000 success", "  70 record", "    5A token: …6789", "    57 track 2 equivalent data: 2 bytes"]
        );
        assert_eq!(answer(&[0x90]), ["no status word, 1 bytes"]);
    }
}
