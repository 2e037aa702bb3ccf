//! How offline data authentication ended: in the words that scripts read.

use crate::chain::Chain;
use crate::seen::Seen;
use crate::tap::Exchanged;
use crate::terminal::Terminal;
use crate::words;
use serde_json::{Value, json};
use wavepass_kernel::{Decision, Facts, OdaFault, TapInput};
use wavepass_protocol::tap::{OdaMethod, OdaResult};
use wavepass_protocol::time::Date;

/// The step that a tap names where the exchange itself ended early.
pub const EXCHANGE: &str = "exchange";

/// Passed, or at which step and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How the card was to be proven genuine, once an application was selected.
    pub method: Option<OdaMethod>,
    /// Where and why it failed; none where it passed.
    pub failure: Option<Failure>,
    /// The kernel's own fault, where it named one.
    pub fault: Option<OdaFault>,
    /// The certificates.
    pub chain: Chain,
}

/// Where and why authentication failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The step.
    pub step: &'static str,
    /// Why.
    pub reason: String,
}

impl Verdict {
    /// The verdict on a tap that has ended.
    pub(crate) fn of(
        facts: &Facts<'_>,
        decision: Decision,
        exchanges: &[Exchanged],
        terminal: &Terminal,
        input: TapInput,
    ) -> Self {
        let today = Date::at(input.now, input.utc_offset_min);
        let chain = Chain::of(&Seen::of(exchanges), facts.oda_method, terminal, today);
        let failure = match (facts.oda_result, facts.oda_fault) {
            (_, Some(fault)) => Some(Failure { step: fault.step(), reason: fault.to_string() }),
            (OdaResult::Passed, None) => expired(&chain),
            (_, None) => Some(Failure { step: EXCHANGE, reason: words::short(decision).to_owned() }),
        };
        Self { method: facts.oda_method, failure, fault: facts.oda_fault, chain }
    }

    /// True if the card was proven genuine.
    pub const fn passed(&self) -> bool {
        self.failure.is_none()
    }

    /// The object that `rig replay --json` prints.
    pub fn to_json(&self) -> Value {
        json!({
            "oda": if self.passed() { "passed" } else { "failed" },
            "method": self.method.map(method_word),
            "signed_format": self.chain.signed_format.map(|format| format!("{format:02X}")),
            "step": self.failure.as_ref().map(|f| f.step),
            "reason": self.failure.as_ref().map(|f| f.reason.as_str()),
        })
    }
}

/// A certificate past its last day proves nothing (Book 2 section 6.3): the gate refuses it as expired.
fn expired(chain: &Chain) -> Option<Failure> {
    let found = [("issuer_certificate", &chain.issuer), ("card_certificate", &chain.card)];
    found.into_iter().find_map(|(step, certificate)| {
        let certificate = certificate.as_ref().filter(|c| c.expired)?;
        Some(Failure { step, reason: format!("the certificate was good until {}", certificate.until()) })
    })
}

/// A method's word.
pub const fn method_word(method: OdaMethod) -> &'static str {
    match method {
        OdaMethod::Fdda => "fdda",
        OdaMethod::Dda => "dda",
        OdaMethod::Ecc => "ecc",
        OdaMethod::Sm2 => "sm2",
    }
}
