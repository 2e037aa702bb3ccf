//! Decisions and faults in words for people who see them for the first time.

use crate::chain::{Authority, Certificate};
use crate::keys::published;
use crate::terminal::FORMATS;
use crate::text::suite_word;
use crate::verdict::Verdict;
use wavepass_hce::hex;
use wavepass_kernel::{Decision, OdaFault, SuiteError};
use wavepass_protocol::lists::Suite;
use wavepass_protocol::rsa::RsaError;
use wavepass_protocol::sm2::Sm2Error;
use wavepass_protocol::tap::{OdaMethod, Reason};

/// What a decision means, in a few words.
pub const fn short(decision: Decision) -> &'static str {
    match decision {
        Decision::Open { again: false } => "the gate opens",
        Decision::Open { again: true } => "the gate opens again for the same tap",
        Decision::Refuse(reason) => refusal(reason),
    }
}

const fn refusal(reason: Reason) -> &'static str {
    match reason {
        Reason::NoApplication => "the card has no application that this terminal accepts",
        Reason::CardError => "the card answered an error, nonsense, or too much",
        Reason::CardRemoved => "the card left the field before it was done",
        Reason::SeveralCards => "there is more than one card in the field",
        Reason::AuthenticationFailed => "the card is not proven genuine",
        Reason::Expired => "the card or its certificate has expired",
        Reason::NotYetValid => "the card is not valid yet",
        Reason::Denied => "the card is on the deny list",
        Reason::Passback => "somebody went through with this card a moment ago",
        Reason::UnusedCard => "the card was never used: its transaction counter is 0",
        Reason::NoCryptogram => "the card gave no cryptogram (ARQC) with which the fare could be collected",
        Reason::Unsupported => "this kernel does not serve this kind of card",
        Reason::NotAcceptedHere => "the card is for another network or operator",
        Reason::RelaySuspected => "the card answered too late for a card that is really here",
        Reason::TooSlow => "the card took longer than a tap may take",
        Reason::ListStale => "the terminal's deny list is too old",
        Reason::ClockUnset => "the terminal does not know the time",
        Reason::JournalFull => "the terminal's journal is full",
        Reason::OutOfService => "the terminal is out of service",
    }
}

/// What it means that the card is, or is not, proven genuine; the decision in a sentence.
pub fn sentence(decision: Decision, passed: bool) -> String {
    match decision {
        Decision::Open { .. } => "The card is genuine and may ride: the gate opens.".to_owned(),
        Decision::Refuse(Reason::AuthenticationFailed) => "The card is not proven genuine.".to_owned(),
        Decision::Refuse(reason) if passed => format!("The card is genuine, but {}.", refusal(reason)),
        Decision::Refuse(reason) => format!("The tap came to no end: {}.", refusal(reason)),
    }
}

/// What a newcomer can do about a fault, or what it means.
pub fn advice(verdict: &Verdict) -> Option<String> {
    let chain = &verdict.chain;
    let authority = chain.authority.as_ref();
    Some(match verdict.fault? {
        OdaFault::CaKeyUnknown => unknown_key(authority?),
        OdaFault::CaKeyExpired => {
            "The terminal's copy of the authority's key is past its last day (`expires` in the terminal's file): the \
             scheme publishes until when a key is good."
                .to_owned()
        }
        OdaFault::IssuerRevoked => revoked(authority?, chain.issuer.as_ref()),
        OdaFault::UnprotectedPdol => {
            "The card's list of wanted data (PDOL) leaves out the unpredictable number, \
                                      the amount or the currency, so its signature would not bind this tap. \
                                      Cards that sign in GENERATE AC (CDA) answer so."
                .to_owned()
        }
        OdaFault::Missing(_) => {
            "The card gave no signature of its own, or not all that is needed to check it: it is made to \
             be verified on line."
                .to_owned()
        }
        OdaFault::StaticData => "Somebody changed the card's data after they were certified.".to_owned(),
        OdaFault::DynamicSignature(SuiteError::Rsa(RsaError::Format(format))) => {
            format!("{} {}", other_format(format), how_to_accept(format, verdict.method))
        }
        OdaFault::DynamicSignature(SuiteError::Sm2(Sm2Error::DynamicData)) => {
            "What the card signed has another form than is expected. Perhaps cards of its kind have other bytes before \
             the transaction counter: `counter_prefix` of `sm2`, which the terminal's file states, and a transcript. Or \
             its answer was changed on the way."
                .to_owned()
        }
        OdaFault::DynamicSignature(_) => {
            "The card's certificates are genuine, but it did not sign this tap: it is a copy, or its \
             answer was changed on the way."
                .to_owned()
        }
        OdaFault::IssuerCertificate(SuiteError::Sm2(Sm2Error::Signature)) => {
            "The issuer's certificate is not signed by the authority's key that the terminal has: another authority's \
             card, a forged one, a wrong key, or signed under another user ID: `user_id` of `sm2`, which the terminal's \
             file states, and a transcript."
                .to_owned()
        }
        OdaFault::IssuerCertificate(_) => {
            "The issuer's certificate is not signed by the authority's key that the terminal has: \
             another authority's card, a forged one, or a wrong key in the terminal's file."
                .to_owned()
        }
        OdaFault::CardCertificate(_) => {
            "The card's certificate is not the issuer's, or does not belong to the card's data.".to_owned()
        }
        _ => return None,
    })
}

/// The same of a recorded tap: what is missing is missing in the transcript.
pub fn advice_on_recording(verdict: &Verdict) -> Option<String> {
    match verdict.fault? {
        OdaFault::CaKeyUnknown => Some(key_not_recorded(verdict.chain.authority.as_ref()?)),
        OdaFault::DynamicSignature(SuiteError::Rsa(RsaError::Format(format @ 0x95)))
            if verdict.method == Some(OdaMethod::Fdda) =>
        {
            Some(format!(
                "{} Of a recording it is accepted of Visa and UnionPay alone.",
                other_format(format)
            ))
        }
        _ => advice(verdict),
    }
}

fn other_format(format: u8) -> String {
    format!(
        "The card's certificates are genuine, but its signed data have format {format:02X}, which is not accepted of \
         this application."
    )
}

/// How a terminal comes to accept a format of signed data, where it can.
fn how_to_accept(format: u8, method: Option<OdaMethod>) -> String {
    if method == Some(OdaMethod::Dda) {
        return "Of cards that sign by INTERNAL AUTHENTICATE the kernel takes 05 alone.".to_owned();
    }
    if !FORMATS.contains(&format) {
        return "The kernel knows 05 and 95 alone.".to_owned();
    }
    "If its scheme's cards sign so, add it to the [[application]] in a terminal file (--config):\n\n    formats = \
     [\"05\", \"95\"]"
        .to_owned()
}

const fn kind(suite: Suite) -> &'static str {
    match suite {
        Suite::Rsa => "RSA",
        Suite::P256 => "P-256",
        Suite::Sm2 => "SM2",
    }
}

/// What to add for a key that a transcript does not have.
fn key_not_recorded(authority: &Authority) -> String {
    let (rid, index, suite) = (hex::encode(&authority.rid), authority.index, authority.suite);
    let key = match suite {
        Suite::Rsa => r#""modulus":"…","exponent":"03""#,
        Suite::P256 => r#""suite":"10","x":"…""#,
        Suite::Sm2 => r#""suite":"sm2","x":"…","y":"…""#,
    };
    format!(
        "The transcript has no {} key {rid} {index:02X} of an authority, for the terminal that recorded it did not have \
         it. Record the card again with a terminal that has it (--config, --authorities), or add it to the transcript's \
         `ca_keys`:\n\n    {{\"rid\":\"{rid}\",\"index\":\"{index:02X}\",{key}}}",
        kind(suite)
    )
}

/// What to add for a key that the terminal does not have.
fn unknown_key(authority: &Authority) -> String {
    let (rid, index, suite) = (hex::encode(&authority.rid), authority.index, authority.suite);
    let check = match published(authority.rid, index).filter(|_| suite == Suite::Rsa) {
        Some(value) => format!("; its published check value is {}", hex::encode(&value)),
        None => String::new(),
    };
    let fields: &[(&str, &str)] = match suite {
        Suite::Rsa => &[("modulus", "…"), ("exponent", "03")],
        Suite::P256 => &[("suite", suite_word(suite)), ("x", "…")],
        Suite::Sm2 => &[("suite", suite_word(suite)), ("x", "…"), ("y", "…")],
    };
    let mut entry = format!("    [[ca_key]]\n    rid = \"{rid}\"\n    index = \"{index:02X}\"\n");
    for (name, value) in fields.iter().chain(&[("check_value", "…")]) {
        entry += &format!("    {name} = \"{value}\"\n");
    }
    format!(
        "The terminal has no {} key {rid} {index:02X} of an authority{check}. Get it from whoever runs the scheme and \
         add it to a terminal file (--config); of a phone that `phone issue` made, give the folder of its authorities \
         instead (--authorities).\n\n{}",
        kind(suite),
        entry.trim_end()
    )
}

/// Where a revocation comes from, and how to take it out.
fn revoked(authority: &Authority, issuer: Option<&Certificate>) -> String {
    let (rid, index) = (hex::encode(&authority.rid), authority.index);
    let serial = issuer.map_or("…", |certificate| certificate.serial.as_str());
    format!(
        "The issuer's certificate {serial} under the authority's key {rid} {index:02X} is withdrawn: the terminal's file \
         has it under [[revoked]], as a scheme or a bank tells those who run gates. If it is there by mistake, take out \
         the entry with serial = \"{serial}\"; at gates:\n\n    wavepass-gateway revocation remove --rid {rid} --index \
         {index:02X} --serial {serial}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;

    #[test]
    fn a_format_is_told_to_be_accepted_only_where_it_can_be() {
        let verdict = |method, format| Verdict {
            method: Some(method),
            failure: None,
            fault: Some(OdaFault::DynamicSignature(SuiteError::Rsa(RsaError::Format(format)))),
            chain: Chain::default(),
        };
        for (verdict, wanted, of_recording) in [
            (verdict(OdaMethod::Fdda, 0x95), "[\"05\", \"95\"]", "of Visa and UnionPay alone."),
            (verdict(OdaMethod::Fdda, 0x15), "knows 05 and 95 alone.", "knows 05 and 95 alone."),
            (verdict(OdaMethod::Dda, 0x95), "takes 05 alone.", "takes 05 alone."),
        ] {
            let told = [advice(&verdict), advice_on_recording(&verdict)].map(Option::unwrap);
            assert!(told[0].ends_with(wanted), "{}", told[0]);
            assert!(told[1].ends_with(of_recording), "{}", told[1]);
        }
    }
}
