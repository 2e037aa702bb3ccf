//! Scripts of answers, for what no profile covers: commands that match are answered from the script, all others by the
//! card.
//!
//! ```toml
//! [[answer]]
//! match = "00A40400??A0000003"    # the command begins so; ? is any digit
//! answer = "6A82"
//!
//! [[answer]]
//! match = "80A8"
//! answer = "6985"
//! once = true                     # then the next answer that matches, or the card
//! delay_ms = 300
//! ```

use crate::card::{Answer, Card, CardFault};
use crate::hex;
use crate::text::{self, Misplaced};
use serde::Deserialize;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The longest script, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The most answers: each command is compared with all of them.
pub const MAX_ANSWERS: usize = 1_000;

/// Why a script cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More bytes than a script has.
    #[error("a script has at most {MAX_FILE} bytes")]
    TooLong,
    /// A key or value of TOML that does not belong there.
    #[error(transparent)]
    Toml(#[from] Misplaced),
    /// The same of JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// More answers than a script has.
    #[error("a script has at most {MAX_ANSWERS} answers, not {0}")]
    Answers(usize),
    /// A pattern or an answer that is no hexadecimal text.
    #[error("answer {number}: {message}")]
    Answer {
        /// Which, from 1.
        number: usize,
        /// What is wrong.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    answer: Vec<AnswerText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerText {
    #[serde(rename = "match")]
    pattern: String,
    answer: String,
    #[serde(default)]
    once: bool,
    #[serde(default)]
    delay_ms: u64,
}

#[derive(Clone)]
struct Rule {
    /// The first digits of a command; `None` is any.
    pattern: Vec<Option<u8>>,
    answer: Vec<u8>,
    once: bool,
    delay_us: u64,
}

/// A script of answers.
#[derive(Clone, Default)]
pub struct Script {
    rules: Vec<Rule>,
}

impl Script {
    /// Reads a file: JSON where its name ends so, else TOML.
    pub fn load(path: &Path) -> Result<Self, ScriptError> {
        let io = |source| ScriptError::Io { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_FILE {
            return Err(ScriptError::TooLong);
        }
        if path.extension().is_some_and(|e| e == "json") {
            Self::from_json(&text)
        } else {
            Self::from_toml(&text)
        }
    }

    /// Reads TOML.
    pub fn from_toml(text: &str) -> Result<Self, ScriptError> {
        Self::new(text::parse(text)?)
    }

    /// Reads JSON.
    pub fn from_json(text: &str) -> Result<Self, ScriptError> {
        Self::new(serde_json::from_str(text)?)
    }

    fn new(text: Text) -> Result<Self, ScriptError> {
        if text.answer.len() > MAX_ANSWERS {
            return Err(ScriptError::Answers(text.answer.len()));
        }
        let rules = text.answer.into_iter().enumerate().map(|(i, answer)| {
            Rule::new(answer).map_err(|message| ScriptError::Answer { number: i + 1, message })
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }
}

impl Rule {
    fn new(text: AnswerText) -> Result<Self, String> {
        let digit = |(i, c): (usize, char)| match c {
            '?' => Ok(None),
            _ => match c.to_digit(16) {
                Some(digit) => Ok(Some(digit as u8)), // below 16
                None => Err(format!("`match`: character {} is neither a hexadecimal digit nor ?", i + 1)),
            },
        };
        let pattern = text.pattern.chars().enumerate().map(digit).collect::<Result<_, _>>()?;
        let answer = hex::decode(&text.answer).map_err(|e| format!("`answer`: {e}"))?;
        Ok(Self { pattern, answer, once: text.once, delay_us: text.delay_ms.saturating_mul(1_000) })
    }

    fn matches(&self, command: &[u8]) -> bool {
        let mut digits = command.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
        self.pattern.iter().all(|wanted| match (digits.next(), wanted) {
            (Some(digit), Some(wanted)) => digit == *wanted,
            (Some(_), None) => true,
            (None, _) => false,
        })
    }
}

/// A card some of whose answers come from a script.
pub struct Scripted<C> {
    card: C,
    rules: Vec<Rule>,
}

impl<C> Scripted<C> {
    /// The script's answers before the card's own. Without any it is the card.
    pub fn new(card: C, script: Script) -> Self {
        Self { card, rules: script.rules }
    }
}

impl<C: Card> Card for Scripted<C> {
    fn enter_field(&mut self) {
        self.card.enter_field();
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        let Some(i) = self.rules.iter().position(|rule| rule.matches(command)) else {
            return self.card.transmit(command);
        };
        let rule = if self.rules[i].once { self.rules.remove(i) } else { self.rules[i].clone() };
        Ok(Answer { data: rule.answer, delay_us: rule.delay_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;

    impl Card for Silent {
        fn enter_field(&mut self) {}

        fn transmit(&mut self, _: &[u8]) -> Result<Answer, CardFault> {
            Ok(Answer { data: vec![0x6F, 0x00], delay_us: 0 })
        }
    }

    const TOML: &str = r#"
        [[answer]]
        match = "00a404??05"
        answer = "9000"
        once = true

        [[answer]]
        match = "00A4"
        answer = "6A82"
        delay_ms = 3
    "#;

    #[test]
    fn a_script_s_answers_come_before_the_card_s_and_once_is_once() {
        let json = r#"{"answer":[{"match":"00A404??05","answer":"9000","once":true},
            {"match":"00A4","answer":"6A82","delay_ms":3}]}"#;
        for script in [Script::from_toml(TOML).unwrap(), Script::from_json(json).unwrap()] {
            let mut card = Scripted::new(Silent, script);
            let mut ask = |command: &[u8]| {
                let answer = card.transmit(command).unwrap();
                (answer.data, answer.delay_us)
            };
            assert_eq!(ask(&[0x00, 0xA4, 0x04]), (vec![0x6A, 0x82], 3_000), "shorter than the first pattern");
            assert_eq!(ask(&[0x00, 0xA4, 0x04, 0x77, 0x05, 1]), (vec![0x90, 0x00], 0));
            assert_eq!(ask(&[0x00, 0xA4, 0x04, 0x77, 0x05, 1]), (vec![0x6A, 0x82], 3_000));
            assert_eq!(ask(&[0x00, 0xB2]), (vec![0x6F, 0x00], 0));
        }
    }

    #[test]
    fn what_is_wrong_with_a_script_is_named_with_its_place() {
        let says =
            |from: &str, to: &str| Script::from_toml(&TOML.replace(from, to)).err().unwrap().to_string();
        assert!(says("delay_ms", "delay").starts_with("line 10, column 9: unknown field `delay`"));
        assert_eq!(
            says("00a404??05", "00x4"),
            "answer 1: `match`: character 3 is neither a hexadecimal digit nor ?"
        );
        assert!(says("6A82", "6A8").starts_with("answer 2: `answer`: hexadecimal text"));
        assert!(Script::from_json("{\"answer\":1}").err().unwrap().to_string().contains("line 1 column 11"));
        let many = "[[answer]]\nmatch = \"\"\nanswer = \"\"\n".repeat(MAX_ANSWERS + 1);
        assert!(matches!(Script::from_toml(&many), Err(ScriptError::Answers(1_001))));
    }
}
