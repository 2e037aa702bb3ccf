//! Why a signed request is refused. What was sent is not repeated: it may be a key or a card's number.

/// Why a signed request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// One of the two headers that make a signature is not there.
    #[error("the header {0} is missing: a signed request has signature-input and signature")]
    HeaderMissing(&'static str),
    /// A header that cannot be read.
    #[error("the header {header} cannot be read: {why}")]
    Malformed {
        /// Which, in lower case.
        header: &'static str,
        /// What is wrong, and where.
        why: String,
    },
    /// A parameter without which nothing can be checked.
    #[error("the signature has no parameter {0}")]
    ParameterMissing(&'static str),
    /// Another algorithm than ours.
    #[error("the signature's alg is not hmac-sha256, the only one taken")]
    Algorithm,
    /// A component that must be covered.
    #[error("the signature does not cover {0}")]
    NotCovered(&'static str),
    /// A component that nobody here can compute.
    #[error(
        "component {0} of the signature (from 1) is not supported: field names and @method, @target-uri, @authority, @scheme, @request-target, @path and @query are, without parameters"
    )]
    NotSupported(usize),
    /// A covered component that the request lacks.
    #[error("component {0} of the signature (from 1) is covered, but the request has none")]
    ComponentMissing(usize),
    /// Made too long ago.
    #[error("the signature was created more than {window_s} s ago")]
    TooOld {
        /// How old one may be, seconds.
        window_s: u64,
    },
    /// Made later than now.
    #[error("the signature was created more than {window_s} s in the future: one of the two clocks is wrong")]
    OfTheFuture {
        /// How far ahead the signer's clock may be, seconds.
        window_s: u64,
    },
    /// Past its own `expires`.
    #[error("the signature has expired, as its parameter expires says")]
    Expired,
    /// It is not this key's over this request.
    #[error("the signature is not this key's over this request")]
    BadSignature,
    /// No `sha-256` of the body.
    #[error("the header content-digest with sha-256 is missing")]
    DigestMissing,
    /// The body is another.
    #[error("the body does not have the digest that content-digest gives")]
    DigestDiffers,
}

impl SignatureError {
    /// A word for programs: the same for the same fault.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::HeaderMissing(_) => "header_missing",
            Self::Malformed { .. } => "malformed_header",
            Self::ParameterMissing(_) => "parameter_missing",
            Self::Algorithm => "algorithm_not_supported",
            Self::NotCovered(_) => "component_not_covered",
            Self::NotSupported(_) => "component_not_supported",
            Self::ComponentMissing(_) => "component_missing",
            Self::TooOld { .. } => "too_old",
            Self::OfTheFuture { .. } => "of_the_future",
            Self::Expired => "expired",
            Self::BadSignature => "bad_signature",
            Self::DigestMissing => "digest_missing",
            Self::DigestDiffers => "digest_differs",
        }
    }

    /// True where the request could be read and is not believed; false where it cannot be read or lacks something.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::TooOld { .. } | Self::OfTheFuture { .. } | Self::Expired | Self::BadSignature)
    }
}
