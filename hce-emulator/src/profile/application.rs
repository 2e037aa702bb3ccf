//! One application of a profile: what may stand there for which kind of card, and the card that is made of it.

use super::{DomainOrder, Order, ProfileError, YEARS};
use crate::application::{HOUSE_AID, RSA_DEBIT_AID, RsaFlow};
use crate::authorities::Authorities;
use crate::hex;
use crate::issue::{Domain, HouseOrder, IssueError, RsaKind, RsaOrder, Sm2Kind};
use crate::phone::PhoneFile;
use rand::CryptoRng;
use serde::Deserialize;
use wavepass_protocol::cryptogram::master_key_option_c;
use wavepass_protocol::select::Aid;
use wavepass_protocol::sm2::Convention;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Token, TokenError};
use zeroize::Zeroizing;

/// How many digits a token has that is made here.
const DIGITS: usize = 16;

/// What kind of application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// P-256, the house's own.
    House,
    /// RSA with fDDA.
    Rsa,
    /// RSA of an older card: INTERNAL AUTHENTICATE and GENERATE AC.
    RsaOlder,
    /// The same, with answers in template 80.
    RsaOlderPlain,
    /// SM2, the national suite.
    Sm2,
}

/// One application of a profile. What is left out is as most cards have it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplicationProfile {
    pub(super) kind: Kind,
    aid: Option<String>,
    label: Option<String>,
    pub(super) priority: Option<u8>,
    psn: Option<u8>,
    years: Option<u16>,
    /// House only.
    network: Option<String>,
    /// House only.
    operator: Option<u16>,
    /// RSA only.
    signed_format: Option<String>,
    /// SM2 only.
    user_id: Option<String>,
    /// SM2 only.
    counter_prefix: Option<String>,
    /// SM2 only.
    key_parameters: Option<String>,
}

impl ApplicationProfile {
    /// Refuses what does not belong to the kind.
    pub(super) fn check(&self) -> Result<(), String> {
        let is_house = self.kind == Kind::House;
        if !is_house && (self.network.is_some() || self.operator.is_some()) {
            return Err("`network` and `operator` belong to kind `house`".into());
        }
        if self.kind != Kind::Rsa && self.signed_format.is_some() {
            return Err("`signed_format` belongs to kind `rsa`".into());
        }
        let is_sm2 = self.user_id.is_some() || self.counter_prefix.is_some() || self.key_parameters.is_some();
        if self.kind != Kind::Sm2 && is_sm2 {
            return Err("`user_id`, `counter_prefix` and `key_parameters` belong to kind `sm2`".into());
        }
        if is_house && self.aid.is_some() {
            return Err("kind `house` has an `aid` of its own".into());
        }
        if self.years.is_some_and(|years| !(1..=20).contains(&years)) {
            return Err("`years` is 1 to 20".into());
        }
        self.aid()?;
        self.format()?;
        self.sm2()?;
        self.domain().map(drop)
    }

    fn aid(&self) -> Result<Vec<u8>, String> {
        let Some(text) = &self.aid else {
            return Ok(if self.kind == Kind::House { HOUSE_AID } else { RSA_DEBIT_AID }.to_vec());
        };
        let bytes = hex::decode(text).map_err(|e| format!("`aid`: {e}"))?;
        Aid::new(&bytes).map(|_| bytes).ok_or_else(|| "`aid` has 5 to 16 bytes".into())
    }

    fn format(&self) -> Result<u8, String> {
        match self.signed_format.as_deref() {
            None | Some("05") => Ok(0x05),
            Some("95") => Ok(0x95),
            Some(_) => Err("`signed_format` is \"05\" or \"95\"".into()),
        }
    }

    fn sm2(&self) -> Result<Sm2Kind, String> {
        let usual = Sm2Kind::default();
        let user_id = self.user_id.as_deref().unwrap_or(usual.convention.user_id());
        let prefix = match &self.counter_prefix {
            Some(text) => hex::decode(text).map_err(|e| format!("`counter_prefix`: {e}"))?,
            None => usual.convention.counter_prefix().to_vec(),
        };
        let key_parameters = match &self.key_parameters {
            Some(text) => {
                let bytes = hex::decode(text).map_err(|e| format!("`key_parameters`: {e}"))?;
                bytes.try_into().map_err(|_| "`key_parameters` has 2 bytes")?
            }
            None => usual.key_parameters,
        };
        let convention = Convention::new(user_id, &prefix).map_err(|e| e.to_string())?;
        Ok(Sm2Kind { convention, key_parameters })
    }

    fn domain(&self) -> Result<Option<Domain>, String> {
        let Some(name) = &self.network else { return Ok(None) };
        let network = <[u8; 4]>::try_from(name.as_bytes()).ok();
        let network = network.filter(|n| n.iter().all(u8::is_ascii_alphanumeric));
        let network = network.ok_or("`network` has four letters or digits")?;
        Ok(Some(Domain { network, operator: self.operator.unwrap_or_default() }))
    }

    pub(super) fn make(
        &self,
        authorities: &Authorities,
        signing: &Authorities,
        order: &Order,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<PhoneFile, ProfileError> {
        let sm2 = self.sm2().map_err(ProfileError::Content)?;
        let prefix = match self.kind {
            Kind::House => prefix(&signing.house()?.issuer().issuer_id()),
            Kind::Rsa | Kind::RsaOlder | Kind::RsaOlderPlain => prefix(&signing.rsa()?.iin()),
            Kind::Sm2 => prefix(&signing.sm2_as(&sm2)?.iin()),
        };
        let token = match order.token {
            Some(token) => token,
            None => random_token(&prefix, rng)?,
        };
        let psn = order.psn.or(self.psn).unwrap_or_default();
        let years = self.years.unwrap_or(YEARS);
        let last = Date { year: (order.today.year + years).min(2099), ..order.today };
        let expiry = order.expiry.unwrap_or_else(|| last.expiry());
        let effective = order.effective.unwrap_or(order.today);
        let master_key = master_key_option_c(authorities.master()?, &token, psn);
        let made = if self.kind == Kind::House {
            let domain = match order.domain {
                DomainOrder::Profile => self.domain().map_err(ProfileError::Content)?,
                DomainOrder::At(domain) => Some(domain),
                DomainOrder::Without => None,
            };
            let (serial, card_key) = ([0; 6], [0; 32]);
            let mut order =
                HouseOrder { token, expiry, effective, psn, domain, serial, card_key, master_key };
            rng.fill_bytes(&mut order.serial);
            rng.fill_bytes(&mut order.card_key);
            signing.house()?.issue(&order)
        } else {
            let aid = self.aid().map_err(ProfileError::Content)?;
            let mut order = RsaOrder { token, expiry, effective, psn, aid, serial: [0; 3], master_key };
            rng.fill_bytes(&mut order.serial);
            let flow = match self.kind {
                Kind::RsaOlder => RsaFlow::Standard,
                Kind::RsaOlderPlain => RsaFlow::StandardPlain,
                Kind::House | Kind::Rsa | Kind::Sm2 => RsaFlow::Quick,
            };
            if self.kind == Kind::Sm2 {
                let mut card_key = Zeroizing::new([0; 32]);
                rng.fill_bytes(card_key.as_mut_slice());
                signing.sm2_as(&sm2)?.issue_as(&sm2, &order, &card_key)
            } else {
                let signed_format = self.format().map_err(ProfileError::Content)?;
                let key = authorities.card_key()?;
                signing.rsa()?.issue_as(RsaKind { flow, signed_format }, &order, &key)
            }
        };
        let mut file = made.map_err(|e| match e {
            IssueError::NotOurToken => ProfileError::NotOurToken(prefix),
            other => other.into(),
        })?;
        // Neither is certified.
        for application in &mut file.applications {
            let card = application.card_mut();
            if let Some(label) = &self.label {
                card.label.clone_from(label);
            }
            card.priority = self.priority.unwrap_or(card.priority);
        }
        Ok(file)
    }
}

/// The digits before the padding.
fn prefix(packed: &[u8]) -> String {
    let digits = packed.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    digits.take_while(|digit| *digit < 10).map(|digit| char::from(b'0' + digit)).collect()
}

/// A token of the issuer's with a right check digit.
fn random_token(prefix: &str, rng: &mut (impl CryptoRng + ?Sized)) -> Result<Token, TokenError> {
    let mut text = prefix.to_owned();
    while text.len() < DIGITS - 1 {
        // A bias of 6 in 256 does no harm to a number that only has to be new.
        text.push(char::from(b'0' + (rng.next_u32() % 10) as u8));
    }
    let sum: u32 = text
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, c)| {
            let digit = u32::from(c - b'0');
            if i % 2 == 1 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    // Below ten.
    text.push(char::from(b'0' + ((10 - sum % 10) % 10) as u8));
    Token::from_digits(&text)
}
