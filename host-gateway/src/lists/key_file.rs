//! Files of card schemes' CA keys: a terminal's file of the rig (TOML, `[[ca_key]]`) or a transcript (JSON, `ca_keys`).
//! Whatever else such a file has is not read.
//!
//! A key is taken only if its check value is stated, by the file or by whoever hands it in, and is its own: a digit
//! that is wrong would otherwise show at the gates, as cards that are refused.

use super::file::{FileError, Source};
use crate::keys::OwnedCaKey;
use serde::Deserialize;
use std::ops::Range;
use toml::Spanned;
use wavepass_hce::hex;
use wavepass_protocol::lists::Suite;
use wavepass_protocol::rsa::{MAX_MODULUS, MIN_MODULUS, ca_check_value};
use wavepass_protocol::time::Date;

/// What is said of keys whose file does not state it.
#[derive(Debug, Clone, Default)]
pub struct Stated {
    /// The last day they are good.
    pub expires: Option<Date>,
    /// Check values, each of one of them.
    pub check_values: Vec<[u8; 20]>,
}

#[derive(Deserialize)]
struct Terminal {
    #[serde(default)]
    ca_key: Vec<Spanned<KeyEntry>>,
}

#[derive(Deserialize)]
struct Transcript {
    #[serde(default)]
    ca_keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    rid: String,
    index: String,
    suite: Option<String>,
    modulus: Option<String>,
    exponent: Option<String>,
    x: Option<String>,
    y: Option<String>,
    check_value: Option<String>,
    expires: Option<String>,
}

/// Reads the keys of a file; `name` is the file's, for what is wrong.
pub fn parse(name: &str, text: &str, stated: &Stated) -> Result<Vec<OwnedCaKey>, FileError> {
    let source = Source { name, text };
    let entries: Vec<(Option<Range<usize>>, KeyEntry)> = if text.trim_start().starts_with('{') {
        let file: Transcript = source.json()?;
        file.ca_keys.into_iter().map(|entry| (None, entry)).collect()
    } else {
        let file: Terminal = source.toml()?;
        file.ca_key.into_iter().map(|entry| (Some(entry.span()), entry.into_inner())).collect()
    };
    if entries.is_empty() {
        return Err(source.error(None, "no key: a terminal's file has [[ca_key]], a transcript \"ca_keys\""));
    }
    let keys = entries.into_iter().enumerate().map(|(i, (span, entry))| {
        entry.read(stated).map_err(|why| source.error(span, format!("CA key {}: {why}", i + 1)))
    });
    keys.collect()
}

impl KeyEntry {
    fn read(&self, stated: &Stated) -> Result<OwnedCaKey, String> {
        let rid: [u8; 5] = array("rid", &self.rid)?;
        let [index] = array("index", &self.index)?;
        let suite = match self.suite.as_deref() {
            None | Some("rsa") => Suite::Rsa,
            Some("p256" | "10") => Suite::P256,
            Some("sm2") => Suite::Sm2,
            Some(_) => return Err("suite: \"rsa\", \"p256\" or \"sm2\"".into()),
        };
        let (key, exponent) = match suite {
            Suite::Rsa => (modulus(&self.modulus)?, exponent(&self.exponent)?),
            Suite::P256 => (coordinate("x", &self.x)?.to_vec(), Vec::new()),
            Suite::Sm2 => ([coordinate("x", &self.x)?, coordinate("y", &self.y)?].concat(), Vec::new()),
        };
        let actual = ca_check_value(&rid, index, &key, &exponent);
        let told = hex::encode(&actual);
        match &self.check_value {
            Some(value) if array("check_value", value)? == actual => {}
            Some(_) => {
                return Err(format!(
                    "the check value is not the key's, which gives {told}: a digit is wrong"
                ));
            }
            None if stated.check_values.contains(&actual) => {}
            None => {
                return Err(format!(
                    "its check value is not stated; the key gives {told}: compare it with the scheme's and give \
                     it with --check-value"
                ));
            }
        }
        let expires = match (&self.expires, stated.expires) {
            (Some(text), _) => date(text).ok_or("expires: a date YYYY-MM-DD")?,
            (None, Some(day)) => day,
            (None, None) => return Err("its last day is not stated: give it with --expires".into()),
        };
        Ok(OwnedCaKey::new(rid, index, suite, expires, &key, &exponent))
    }
}

fn array<const N: usize>(name: &str, text: &str) -> Result<[u8; N], String> {
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("{name}: {N} bytes, hexadecimal"))
}

fn needed<'a>(name: &str, text: &'a Option<String>) -> Result<&'a str, String> {
    text.as_deref().ok_or_else(|| format!("`{name}` is missing"))
}

fn coordinate(name: &str, text: &Option<String>) -> Result<[u8; 32], String> {
    array(name, needed(name, text)?)
}

fn modulus(text: &Option<String>) -> Result<Vec<u8>, String> {
    let bytes = hex::decode(needed("modulus", text)?).map_err(|_| "modulus: hexadecimal")?;
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Err("modulus: empty".into());
    };
    if !(MIN_MODULUS..=MAX_MODULUS).contains(&bytes.len()) {
        return Err(format!("modulus: {MIN_MODULUS} to {MAX_MODULUS} bytes, not {}", bytes.len()));
    }
    if first & 0x80 == 0 || last & 1 == 0 {
        return Err("modulus: its first bit and its last one must be 1".into());
    }
    Ok(bytes)
}

fn exponent(text: &Option<String>) -> Result<Vec<u8>, String> {
    let bytes = hex::decode(needed("exponent", text)?).unwrap_or_default();
    match bytes[..] {
        [3] | [1, 0, 1] => Ok(bytes),
        _ => Err("exponent: 03 or 010001".into()),
    }
}

/// Reads a date, YYYY-MM-DD.
pub(super) fn date(text: &str) -> Option<Date> {
    let day: jiff::civil::Date = text.parse().ok()?;
    let (year, month, day) =
        (day.year().try_into().ok()?, day.month().try_into().ok()?, day.day().try_into().ok()?);
    Date::new(year, month, day).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULUS: &str = "C7";

    fn entry(more: &str) -> String {
        let modulus = MODULUS.repeat(144);
        format!(
            "network = \"CITY\"\n\n[[ca_key]]\nrid = \"A000000333\"\nindex = \"08\"\nmodulus = \"{modulus}\"\n\
             exponent = \"03\"\n{more}"
        )
    }

    fn value() -> String {
        hex::encode(&ca_check_value(&[0xA0, 0, 0, 3, 0x33], 8, &[0xC7; 144], &[3]))
    }

    fn read(text: &str) -> Result<Vec<OwnedCaKey>, String> {
        parse("keys.toml", text, &Stated::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_terminal_s_file_and_a_transcript_give_the_same_keys() {
        let value = value();
        let text = entry(&format!("check_value = \"{value}\"\nexpires = \"2030-12-31\"\n"));
        let keys = read(&text).unwrap();
        let [key] = &keys[..] else { panic!("{keys:?}") };
        assert_eq!((key.suite, key.index, key.expiry), (Suite::Rsa, 8, [0x20, 0x30, 0x12, 0x31]));
        assert!(key.as_ca_key().check_value_matches());
        let transcript = serde_json::json!({
            "ca_keys": [{
                "rid": "a000000333", "index": "08", "modulus": MODULUS.repeat(144), "exponent": "03"
            }],
            "date": "2026-11-23",
            "exchange": [{ "c": "00A4040000", "r": "9000" }],
        });
        let stated = Stated {
            expires: Some(Date::new(2030, 12, 31).unwrap()),
            check_values: vec![array("value", &value).unwrap()],
        };
        assert_eq!(parse("t.json", &transcript.to_string(), &stated).unwrap(), keys);
    }

    #[test]
    fn keys_of_other_suites_are_their_coordinates() {
        let value = |key: &[u8]| hex::encode(&ca_check_value(&[0xF0, 0x57, 0x41, 0x56, 0x45], 1, key, &[]));
        let (x, y) = ("11".repeat(32), "22".repeat(32));
        let (one, two) = (value(&[0x11; 32]), value(&[[0x11; 32], [0x22; 32]].concat()));
        let of = |suite: &str, more: &str, value: &str| {
            let text = format!(
                "[[ca_key]]\nrid = \"F057415645\"\nindex = \"01\"\nsuite = \"{suite}\"\nx = \"{x}\"\n{more}\
                 check_value = \"{value}\"\nexpires = \"2030-12-31\"\n"
            );
            read(&text).map(|keys| (keys[0].suite, keys[0].key.len()))
        };
        assert_eq!(of("p256", "", &one), Ok((Suite::P256, 32)));
        assert_eq!(of("10", "", &one), Ok((Suite::P256, 32)));
        assert_eq!(of("sm2", &format!("y = \"{y}\"\n"), &two), Ok((Suite::Sm2, 64)));
        assert!(of("sm2", "", &two).unwrap_err().ends_with("CA key 1: `y` is missing"));
        assert!(of("dsa", "", &one).unwrap_err().ends_with("suite: \"rsa\", \"p256\" or \"sm2\""));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_a_key_without_its_check_value_is_not_taken() {
        let good = entry(&format!("check_value = \"{}\"\nexpires = \"2030-12-31\"\n", value()));
        for (from, to, told) in [
            (
                &value()[..],
                &"00".repeat(20)[..],
                "keys.toml:3:1: CA key 1: the check value is not the key's, which gives",
            ),
            ("C7C7", "C7C5", "the check value is not the key's"),
            ("check_value", "kcv", "unknown field `kcv`"),
            ("A000000333", "A0000003", "keys.toml:3:1: CA key 1: rid: 5 bytes"),
            ("exponent = \"03\"", "exponent = \"05\"", "exponent: 03 or 010001"),
            ("modulus = \"C7", "modulus = \"47", "modulus: its first bit"),
            ("modulus = \"C7", "modulus = \"X7", "modulus: hexadecimal"),
            ("2030-12-31", "2030-02-30", "expires: a date"),
            ("expires = \"2030-12-31\"", "", "its last day is not stated"),
            ("[[ca_key]]", "[[ca_keys]]", "keys.toml: no key"),
        ] {
            let error = read(&good.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(told), "{to}: {error}");
        }
        let error = read(&entry("expires = \"2030-12-31\"\n")).unwrap_err();
        assert!(error.contains(&value()) && error.contains("its check value is not stated"), "{error}");
        let error = read(&entry("check_value = 7\n")).unwrap_err();
        assert!(error.starts_with("keys.toml:8:15: invalid type: integer, expected"), "{error}");
        let error = read("{\"ca_keys\":[{\"rid\":6299000200000017}]}").unwrap_err();
        assert!(error.starts_with("keys.toml:1:") && !error.contains("6299"), "{error}");
    }
}
