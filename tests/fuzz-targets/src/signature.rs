//! The headers of a concentrator's signed request.

use std::hint::black_box;
use wavepass_signature::{CONTENT_DIGEST, ContentDigest, Field, Head, SIGNATURE, SIGNATURE_INPUT, Signed};

/// The input is `signature-input`, `signature` and `content-digest`, a line each, and a body.
pub(crate) fn headers(data: &[u8]) {
    let mut parts = data.splitn(4, |&b| b == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (input, signature, digest, body) = (next(), next(), next(), next());
    let fields: &[Field<'_>] = &[
        (SIGNATURE_INPUT, input),
        (SIGNATURE, signature),
        (CONTENT_DIGEST, digest),
        ("content-type", b"application/json"),
    ];
    if let Ok(digest) = ContentDigest::read(fields) {
        black_box(digest.check(body).is_ok());
    }
    let Ok(signed) = Signed::read(fields) else { return };
    let authority = "gateway.example";
    let (method, path) = ("POST", "/v1/taps/batches");
    let head = Head { method, scheme: "https", authority, path, query: Some("a=b"), fields };
    black_box(signed.requires(&head).is_ok());
    black_box(signed.check_time(1_795_392_000, 300).is_ok());
    assert!(signed.verify(b"a key that signed nothing", &head).is_err(), "nobody signed it");
    if let Ok(base) = signed.base(&head) {
        // What is signed names what was read: its last line, read again, is the same signature.
        let line = base.rsplit(|&b| b == b'\n').next().unwrap_or_default();
        let params = line.strip_prefix(b"\"@signature-params\": ").expect("the last line has the parameters");
        let label = input.split(|&b| b == b'=').next().unwrap_or_default();
        let again = [label, b"=", params].concat();
        let fields: &[Field<'_>] = &[(SIGNATURE_INPUT, &again), (SIGNATURE, signature), fields[2], fields[3]];
        let same = Signed::read(fields).expect("what was written can be read");
        assert_eq!(same.key_id(), signed.key_id());
        assert_eq!(same.base(&Head { fields, ..head }), Ok(base));
    }
}

pub(crate) fn header_seeds() -> Vec<Vec<u8>> {
    vec![
        b"sig=(\"@method\" \"@path\" \"@query\" \"content-digest\");created=1795392000;keyid=\"wpc-0011223344556677\"\n\
          sig=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\n\
          sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:\n{}"
            .to_vec(),
        b"a=(\"@target-uri\" \"@authority\" \"@scheme\" \"@request-target\" \"content-type\");created=1;expires=2;\
          nonce=\"n\";alg=\"hmac-sha256\";keyid=\"k\"\na=:AAAA:\nsha-512=:AAAA:, sha-256=:AAAA:\n"
            .to_vec(),
    ]
}
