//! The certificates of a card, recovered for people to read. What they prove is the kernel's verdict, not this.

use crate::keys::AuthorityKey;
use crate::seen::Seen;
use crate::terminal::Terminal;
use crate::text::show_date;
use wavepass_hce::hex;
use wavepass_protocol::ecc::{CardCertificate, IssuerCertificate};
use wavepass_protocol::lists::Suite;
use wavepass_protocol::rsa::{BUFFER, Exponent, IccCert, IssuerCert, RsaKey, recover};
use wavepass_protocol::tags;
use wavepass_protocol::tap::OdaMethod;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::Expiry;

/// The authority's key that a card's certificates name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Registered application provider: the first five bytes of the application's identifier.
    pub rid: [u8; 5],
    /// Index, from tag 8F.
    pub index: u8,
    /// Which kind of key the card's certificates ask for.
    pub suite: Suite,
    /// The key in words; none where the terminal does not have it.
    pub key: Option<String>,
}

/// A certificate that opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The issuer's: the first digits of its tokens.
    pub issuer: Option<String>,
    /// Serial number.
    pub serial: String,
    /// The last day on which it is good.
    pub last_day: Date,
    /// True if that day is past.
    pub expired: bool,
    /// The certified key.
    pub key: String,
}

impl Certificate {
    /// The last day as text.
    pub fn until(&self) -> String {
        show_date(self.last_day)
    }
}

/// From the authority's key to the card's signature, as far as it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The key that is asked for.
    pub authority: Option<Authority>,
    /// The issuer's certificate.
    pub issuer: Option<Certificate>,
    /// The card's.
    pub card: Option<Certificate>,
    /// RSA: the format byte of the signed dynamic data.
    pub signed_format: Option<u8>,
}

/// A public key recovered from an RSA certificate.
struct Rsa {
    modulus: Vec<u8>,
    exponent: Exponent,
}

impl Rsa {
    fn of(key: &RsaKey<'_>) -> Self {
        Self { modulus: key.modulus().to_vec(), exponent: key.exponent() }
    }

    fn key(&self) -> Option<RsaKey<'_>> {
        RsaKey::new(&self.modulus, self.exponent).ok()
    }

    fn describe(&self) -> String {
        describe_rsa(&self.modulus, self.exponent.as_bytes())
    }
}

fn describe_rsa(modulus: &[u8], exponent: &[u8]) -> String {
    let exponent = exponent.iter().fold(0u32, |n, &b| n << 8 | u32::from(b));
    format!("RSA {} bits, exponent {exponent}", modulus.len() * 8)
}

fn describe(key: &AuthorityKey) -> String {
    match key.suite {
        Suite::Rsa => describe_rsa(&key.key, &key.exponent),
        Suite::P256 => "P-256".to_owned(),
        Suite::Sm2 => "SM2".to_owned(),
    }
}

impl Chain {
    /// What the card's answers give, where the kernel proves it by this method.
    pub fn of(seen: &Seen, method: Option<OdaMethod>, terminal: &Terminal, today: Date) -> Self {
        let mut chain = Self::default();
        let (Some(aid), Some(&[index]), Some(method)) = (seen.aid, seen.get(tags::CA_INDEX), method) else {
            return chain;
        };
        let suite = match method {
            OdaMethod::Ecc => Suite::P256,
            OdaMethod::Fdda | OdaMethod::Dda => Suite::Rsa,
            OdaMethod::Sm2 => Suite::Sm2,
        };
        let key = terminal.key(&aid.rid(), index, suite);
        chain.authority = Some(Authority { rid: aid.rid(), index, suite, key: key.map(describe) });
        if let Some(key) = key {
            match key.suite {
                Suite::Rsa => chain.rsa(seen, key, today),
                Suite::P256 => chain.p256(seen, today),
                Suite::Sm2 => chain.sm2(seen, today),
            }
        }
        chain
    }

    fn rsa(&mut self, seen: &Seen, ca: &AuthorityKey, today: Date) {
        // A certificate that does not open leaves its place empty; why not is the kernel's to say.
        let _ = self.rsa_issuer(seen, ca, today).and_then(|issuer| {
            let card = self.rsa_card(seen, &issuer, today)?;
            let mut block = [0; BUFFER];
            let len = recover(&card.key()?, seen.get(tags::SDAD)?, &mut block).ok()?;
            self.signed_format = block[..len].get(1).copied();
            Some(())
        });
    }

    fn rsa_issuer(&mut self, seen: &Seen, ca: &AuthorityKey, today: Date) -> Option<Rsa> {
        let key = RsaKey::new(&ca.key, Exponent::from_bytes(&ca.exponent).ok()?).ok()?;
        let mut buf = [0; BUFFER];
        let remainder = seen.get(tags::ISSUER_REMAINDER).unwrap_or_default();
        let (value, exponent) = (seen.get(tags::ISSUER_CERTIFICATE)?, seen.get(tags::ISSUER_EXPONENT)?);
        let cert = IssuerCert::recover(&key, value, remainder, exponent, &mut buf).ok()?;
        let issuer = Rsa::of(&cert.key);
        let key = issuer.describe();
        self.issuer =
            Some(certificate(Some(&cert.issuer_id), &cert.serial, Date::last_of(cert.expiry), today, key));
        Some(issuer)
    }

    fn rsa_card(&mut self, seen: &Seen, issuer: &Rsa, today: Date) -> Option<Rsa> {
        let mut buf = [0; BUFFER];
        let remainder = seen.get(tags::CARD_REMAINDER).unwrap_or_default();
        let (value, exponent) = (seen.get(tags::CARD_CERTIFICATE)?, seen.get(tags::CARD_EXPONENT)?);
        let aip = match seen.get(tags::SDA_TAG_LIST) {
            Some([0x82]) => seen.get(tags::AIP)?,
            _ => &[],
        };
        let covered = [seen.statics.as_slice(), aip];
        let cert = IccCert::recover(&issuer.key()?, value, remainder, exponent, &covered, &mut buf).ok()?;
        let card = Rsa::of(&cert.key);
        let key = card.describe();
        self.card = Some(certificate(None, &cert.serial, Date::last_of(cert.expiry), today, key));
        Some(card)
    }

    fn p256(&mut self, seen: &Seen, today: Date) {
        let issuer = seen.get(tags::ISSUER_CERTIFICATE).and_then(|v| IssuerCertificate::parse(v).ok());
        self.issuer = issuer.map(|IssuerCertificate { fields, .. }| {
            certificate(Some(&fields.issuer_id), &fields.serial, fields.expiry, today, "P-256".to_owned())
        });
        let card = seen.get(tags::CARD_CERTIFICATE).and_then(|v| CardCertificate::parse(v).ok());
        self.card = card.map(|CardCertificate { fields, .. }| {
            certificate(None, &fields.serial, fields.expiry, today, "P-256".to_owned())
        });
    }

    /// SM2 certificates have their fields in the clear: who, month, serial number.
    fn sm2(&mut self, seen: &Seen, today: Date) {
        let read = |tag, header: u8, who: usize| {
            let value = seen.get(tag).filter(|value| value.first() == Some(&header))?;
            let (who, rest) = value[1..].split_at_checked(who)?;
            let (&month, rest) = rest.split_first_chunk::<2>()?;
            let serial = rest.get(..3)?;
            Some((who.to_vec(), Date::last_of(Expiry::from_mmyy(month).ok()?), serial.to_vec()))
        };
        let key = || "SM2".to_owned();
        self.issuer = read(tags::ISSUER_CERTIFICATE, 0x12, 4)
            .map(|(issuer, last, serial)| certificate(Some(&issuer), &serial, last, today, key()));
        self.card = read(tags::CARD_CERTIFICATE, 0x14, 10)
            .map(|(_, last, serial)| certificate(None, &serial, last, today, key()));
    }
}

fn certificate(
    issuer: Option<&[u8]>,
    serial: &[u8],
    last_day: Date,
    today: Date,
    key: String,
) -> Certificate {
    let digits = |id: &[u8]| hex::encode(id).trim_end_matches('F').to_owned();
    Certificate {
        issuer: issuer.map(digits),
        serial: hex::encode(serial),
        last_day,
        expired: today > last_day,
        key,
    }
}
