//! The tags that this stack reads or writes, under their EMV names (Book 3 annex A; UnionPay's and the
//! house's own are marked), and the formats that decide how a DOL pads them.

use crate::tlv::Tag;

macro_rules! tags {
    ($($(#[$doc:meta])* $name:ident = $tag:literal;)*) => {
        $($(#[$doc])* pub const $name: Tag = Tag($tag);)*
    };
}

tags! {
    /// Application identifier of a directory entry (ADF name), 5 to 16 bytes.
    ADF_NAME = 0x4F;
    /// Application label.
    APPLICATION_LABEL = 0x50;
    /// Track 2 equivalent data.
    TRACK2 = 0x57;
    /// Application primary account number: the token.
    PAN = 0x5A;
    /// Directory entry.
    DIRECTORY_ENTRY = 0x61;
    /// File control information template.
    FCI = 0x6F;
    /// Record template.
    RECORD = 0x70;
    /// Response template format 2: TLVs.
    RESPONSE_2 = 0x77;
    /// Response template format 1: values only.
    RESPONSE_1 = 0x80;
    /// Application interchange profile, 2 bytes.
    AIP = 0x82;
    /// Command template, the wrapper of PDOL values.
    COMMAND_TEMPLATE = 0x83;
    /// Dedicated file name.
    DF_NAME = 0x84;
    /// Application priority indicator, 1 byte.
    PRIORITY = 0x87;
    /// Card risk management DOL 1.
    CDOL1 = 0x8C;
    /// Certification authority public key index, 1 byte.
    CA_INDEX = 0x8F;
    /// Issuer public key certificate.
    ISSUER_CERTIFICATE = 0x90;
    /// Issuer public key remainder.
    ISSUER_REMAINDER = 0x92;
    /// Signed static application data.
    SSAD = 0x93;
    /// Application file locator.
    AFL = 0x94;
    /// Terminal verification results, 5 bytes.
    TVR = 0x95;
    /// Transaction date, YYMMDD.
    TRANSACTION_DATE = 0x9A;
    /// Transaction type, 1 byte.
    TRANSACTION_TYPE = 0x9C;
    /// FCI proprietary template.
    FCI_PROPRIETARY = 0xA5;
    /// FCI issuer discretionary data.
    FCI_DISCRETIONARY = 0xBF0C;
    /// Application expiration date, YYMMDD.
    EXPIRY_DATE = 0x5F24;
    /// Application effective date, YYMMDD.
    EFFECTIVE_DATE = 0x5F25;
    /// Issuer country code, 2 bytes.
    ISSUER_COUNTRY = 0x5F28;
    /// Transaction currency code, 2 bytes.
    CURRENCY = 0x5F2A;
    /// Application PAN sequence number, 1 byte.
    PSN = 0x5F34;
    /// Amount, authorised, 6 bytes.
    AMOUNT = 0x9F02;
    /// Amount, other, 6 bytes.
    AMOUNT_OTHER = 0x9F03;
    /// Application identifier, as the terminal has it.
    AID = 0x9F06;
    /// Application usage control, 2 bytes.
    AUC = 0x9F07;
    /// Issuer application data, up to 32 bytes.
    IAD = 0x9F10;
    /// Terminal country code, 2 bytes.
    TERMINAL_COUNTRY = 0x9F1A;
    /// Transaction time, HHMMSS.
    TRANSACTION_TIME = 0x9F21;
    /// Application cryptogram, 8 bytes.
    CRYPTOGRAM = 0x9F26;
    /// Cryptogram information data, 1 byte.
    CID = 0x9F27;
    /// Kernel identifier of a directory entry.
    KERNEL_ID = 0x9F2A;
    /// Issuer public key exponent.
    ISSUER_EXPONENT = 0x9F32;
    /// Terminal type, 1 byte.
    TERMINAL_TYPE = 0x9F35;
    /// Application transaction counter, 2 bytes.
    ATC = 0x9F36;
    /// Unpredictable number, 4 bytes.
    UNPREDICTABLE_NUMBER = 0x9F37;
    /// Processing options DOL.
    PDOL = 0x9F38;
    /// Card (ICC) public key certificate.
    CARD_CERTIFICATE = 0x9F46;
    /// Card (ICC) public key exponent.
    CARD_EXPONENT = 0x9F47;
    /// Card (ICC) public key remainder.
    CARD_REMAINDER = 0x9F48;
    /// Dynamic data authentication DOL.
    DDOL = 0x9F49;
    /// Static data authentication tag list.
    SDA_TAG_LIST = 0x9F4A;
    /// Signed dynamic application data.
    SDAD = 0x9F4B;
    /// Merchant name and location.
    MERCHANT_NAME = 0x9F4E;
    /// Terminal transaction qualifiers, 4 bytes.
    TTQ = 0x9F66;
    /// Card authentication related data, 5 to 16 bytes.
    CARD_AUTHENTICATION_DATA = 0x9F69;
    /// Card transaction qualifiers, 2 bytes.
    CTQ = 0x9F6C;
    /// UnionPay: what the card supports, byte 1 bit 7 = offline data authentication for online.
    CARD_SUPPORTS = 0xDF61;
    /// UnionPay: SM algorithm support indicator, 1 byte.
    SM_SUPPORT = 0xDF69;
    /// The house's own: the token's domain (version, domain, network, operator), 8 bytes.
    DOMAIN = 0xDF71;
    /// The house's own: the card can be timed (relay resistance), version `01`, 1 byte.
    RELAY_RESISTANCE = 0xDF72;
    /// The house's own: the timed exchange as the card saw it, gate's entropy and its answer, 14 bytes.
    TIMED_EXCHANGE = 0xDF73;
}

/// How a DOL fits a value into the length it asks for (Book 3 section 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Right-justified: leading bytes are cut or filled with `00`.
    Numeric,
    /// Left-justified: trailing bytes are cut or filled with `FF`.
    CompressedNumeric,
    /// Left-justified: trailing bytes are cut or filled with `00`.
    Other,
}

/// The format of a tag's value; a tag not known here is [`Format::Other`].
pub const fn format(tag: Tag) -> Format {
    match tag.0 {
        // 9A date, 9C type, 5F24/25 dates, 5F28/9F1A countries, 5F2A/9F42/9F51 currencies, 5F30 service code,
        // 5F34 PSN, 5F36/9F44 exponents, 9F01 acquirer, 9F02/9F03 amounts, 9F11 code table, 9F15 category,
        // 9F21 time, 9F35 terminal type, 9F39 entry mode, 9F3B/9F3C/9F3D reference currency, 9F41 counter.
        0x9A | 0x9C | 0x5F24 | 0x5F25 | 0x5F28 | 0x5F2A | 0x5F30 | 0x5F34 | 0x5F36 | 0x9F01 | 0x9F02
        | 0x9F03 | 0x9F11 | 0x9F15 | 0x9F1A | 0x9F21 | 0x9F35 | 0x9F39 | 0x9F3B | 0x9F3C | 0x9F3D
        | 0x9F41 | 0x9F42 | 0x9F43 | 0x9F44 | 0x9F51 => Format::Numeric,
        // 5A token, 9F20 track 2 discretionary data.
        0x5A | 0x9F20 => Format::CompressedNumeric,
        _ => Format::Other,
    }
}
