//! The verifier against RFC 9421's own vector, and against requests of which one byte is another.

use super::*;
use crate::{CONTENT_DIGEST, ContentDigest};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const NOW_S: u64 = 1_795_392_000;
const WINDOW_S: u64 = 300;
const KEY: &[u8] = b"thirty-two bytes of a test's key";
const COVERED: &str = r#"("@method" "@path" "content-digest")"#;

/// Base64 between colons, as headers have it.
fn bytes(bytes: &[u8]) -> String {
    sfv::Item::new(BareItem::ByteSequence(bytes.to_vec())).serialize()
}

#[derive(Clone)]
struct Request {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    fn unsigned() -> Self {
        let body = br#"{"entries":["00ff"]}"#.to_vec();
        let digest = format!("sha-256={}", bytes(&Sha256::digest(&body)));
        let fields = vec![
            ("content-type".to_owned(), b"application/json".to_vec()),
            (CONTENT_DIGEST.to_owned(), digest.into_bytes()),
        ];
        Self { method: "POST".to_owned(), target: "/v1/taps/batches".to_owned(), fields, body }
    }

    /// Signed with what follows the label, such as `("@method");created=1`.
    fn signed(self, params: &str) -> Self {
        let input = self.with(SIGNATURE_INPUT, format!("sig={params}"));
        let unsigned = input.clone().with(SIGNATURE, "sig=:AAAA:");
        let base = unsigned.on_head(|head| Signed::read(head.fields)?.base(head)).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
        mac.update(&base);
        input.with(SIGNATURE, format!("sig={}", bytes(&mac.finalize().into_bytes())))
    }

    fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.fields.retain(|(n, _)| n != name);
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(n, _)| n != name);
        self
    }

    fn on_head<T>(&self, then: impl FnOnce(&Head<'_>) -> T) -> T {
        let fields: Vec<Field<'_>> = self.fields.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target.as_str(), None),
        };
        let (method, authority) = (self.method.as_str(), "gateway.example:7780");
        then(&Head { method, scheme: "http", authority, path, query, fields: &fields })
    }

    /// As the gateway does it.
    fn check(&self) -> Result<(), SignatureError> {
        self.on_head(|head| {
            let signed = Signed::read(head.fields)?;
            signed.requires(head)?;
            signed.check_time(NOW_S, WINDOW_S)?;
            signed.verify(KEY, head)?;
            ContentDigest::read(head.fields)?.check(&self.body)
        })
    }

    fn word(&self) -> &'static str {
        self.check().map_or_else(|e| e.word(), |()| "taken")
    }
}

fn params(covered: &str, created_s: u64) -> String {
    format!(r#"{covered};created={created_s};keyid="wpc-1";expires={}"#, NOW_S + 60)
}

fn good() -> Request {
    let covered = r#"("@method" "@target-uri" "@path" "@authority" "content-type" "content-digest")"#;
    Request::unsigned().signed(&params(covered, NOW_S))
}

/// RFC 9421, appendix B.2.5, with the request of B.2 and the shared secret of B.1.5.
#[test]
fn the_rfc_s_own_hmac_vector_verifies_and_its_base_is_ours() {
    let secret: sfv::Item = Parser::new(
        ":uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==:",
    )
    .parse()
    .unwrap();
    let secret = secret.bare_item.as_byte_sequence().unwrap();
    let fields: &[Field<'_>] = &[
        ("host", b"example.com"),
        ("date", b"Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", b"application/json"),
        (
            SIGNATURE_INPUT,
            br#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        ),
        (SIGNATURE, b"sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"),
    ];
    let head = Head {
        method: "POST",
        scheme: "https",
        authority: "example.com",
        path: "/foo",
        query: Some("param=Value&Pet=dog"),
        fields,
    };
    let signed = Signed::read(fields).unwrap();
    assert_eq!(signed.key_id(), "test-shared-secret");
    let base = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
                \"@authority\": example.com\n\
                \"content-type\": application/json\n\
                \"@signature-params\": (\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"";
    assert_eq!(String::from_utf8(signed.base(&head).unwrap()).unwrap(), base);
    assert_eq!(signed.verify(secret, &head), Ok(()));
    let other = Head { authority: "example.org", ..head };
    assert_eq!(signed.verify(secret, &other), Err(SignatureError::BadSignature));
    assert_eq!(signed.verify(b"another key", &head), Err(SignatureError::BadSignature));
}

/// The values of RFC 9421, sections 2.2.1 to 2.2.7 and 2.1.
#[test]
fn components_have_the_rfc_s_values() {
    let fields: &[Field<'_>] = &[("x-list", b"  a, b "), ("x-list", b"c\t"), ("x-empty", b"")];
    let head = Head {
        method: "POST",
        scheme: "https",
        authority: "www.Example.com:443",
        path: "/path",
        query: Some("param=value"),
        fields,
    };
    let value = |name: &str| head.component(name).ok().flatten().map(|v| String::from_utf8(v).unwrap());
    for (name, expected) in [
        ("@method", "POST"),
        ("@authority", "www.example.com"),
        ("@scheme", "https"),
        ("@target-uri", "https://www.Example.com:443/path?param=value"),
        ("@request-target", "/path?param=value"),
        ("@path", "/path"),
        ("@query", "?param=value"),
        ("x-list", "a, b, c"),
        ("x-empty", ""),
    ] {
        assert_eq!(value(name).as_deref(), Some(expected), "{name}");
    }
    let bare = Head { path: "", query: None, authority: "", ..head };
    assert_eq!(bare.component("@path").ok().flatten().as_deref(), Some(&b"/"[..]));
    assert_eq!(bare.component("@query").ok().flatten().as_deref(), Some(&b"?"[..]));
    assert!(bare.component("@authority").is_ok_and(|value| value.is_none()));
    assert!(bare.component("@status").is_err());
}

#[test]
fn a_signed_request_is_taken_and_each_fault_has_its_own_name() {
    assert_eq!(good().word(), "taken");
    let least = || Request::unsigned().signed(&params(COVERED, NOW_S));
    assert_eq!(least().word(), "taken");
    let signed = |params: &str| Request::unsigned().signed(params);
    let digest =
        |value: &str| Request::unsigned().with(CONTENT_DIGEST, value).signed(&params(COVERED, NOW_S));
    let with_input = |value: &str| least().with(SIGNATURE_INPUT, value);
    let query = |covered: &str| {
        let request = Request { target: "/v1/taps/batches?x=1".to_owned(), ..Request::unsigned() };
        request.signed(&params(covered, NOW_S))
    };
    let body = Request { body: b"{}".to_vec(), ..least() };
    let many = (0..17).map(|i| format!("\"x-{i}\"")).collect::<Vec<_>>().join(" ");
    for (request, word) in [
        (least().without(SIGNATURE), "header_missing"),
        (least().without(SIGNATURE_INPUT), "header_missing"),
        (with_input("sig="), "malformed_header"),
        (with_input("sig=1"), "malformed_header"),
        (with_input("sig=(@method)"), "malformed_header"),
        (with_input(r#"sig=("@method" "@method");created=1;keyid="k""#), "malformed_header"),
        (with_input(r#"sig=("Date");created=1;keyid="k""#), "malformed_header"),
        (with_input(r#"sig=();created=1;keyid="""#), "malformed_header"),
        (with_input(r#"sig=();created=1.5;keyid="k""#), "malformed_header"),
        (with_input(r#"sig=();created=1;keyid=k"#), "malformed_header"),
        (with_input(r#"sig=();created=1;keyid="k", other=();created=1;keyid="k""#), "malformed_header"),
        (with_input(&format!("sig=({many});created=1;keyid=\"k\"")), "malformed_header"),
        (with_input(&format!("sig=();created=1;keyid=\"{}\"", "k".repeat(65))), "malformed_header"),
        (with_input(&format!("sig=();created=1;keyid=\"k\"{}", " ".repeat(5000))), "malformed_header"),
        (with_input("sig=();keyid=\"\u{e9}\""), "malformed_header"),
        (least().with(SIGNATURE, "other=:AAAA:"), "malformed_header"),
        (least().with(SIGNATURE, "sig=(1)"), "malformed_header"),
        (least().with(SIGNATURE, "sig=:AAAA"), "malformed_header"),
        (least().with(SIGNATURE, "sig=:AAB=:"), "malformed_header"),
        (with_input(r#"sig=();keyid="k""#), "parameter_missing"),
        (with_input("sig=();created=1"), "parameter_missing"),
        (with_input(&format!("sig={};alg=\"ed25519\"", params(COVERED, NOW_S))), "algorithm_not_supported"),
        (signed(&format!("{};alg=\"hmac-sha256\";nonce=\"7\";tag=\"x\"", params(COVERED, NOW_S))), "taken"),
        (signed(&params(r#"("@path" "content-digest")"#, NOW_S)), "component_not_covered"),
        (signed(&params(r#"("@method" "content-digest")"#, NOW_S)), "component_not_covered"),
        (signed(&params(r#"("@method" "@path")"#, NOW_S)), "component_not_covered"),
        (query(COVERED), "component_not_covered"),
        (query(r#"("@method" "@path" "@query" "content-digest")"#), "taken"),
        (query(r#"("@method" "@target-uri" "content-digest")"#), "taken"),
        (with_input(r#"sig=("@method";req);created=1;keyid="k""#), "component_not_supported"),
        (
            with_input(&format!(
                "sig={}",
                params(r#"("@method" "@path" "content-digest" "@status")"#, NOW_S)
            )),
            "component_not_supported",
        ),
        (
            with_input(&format!(
                "sig={}",
                params(r#"("@method" "@path" "content-digest" "x-not-there")"#, NOW_S)
            )),
            "component_missing",
        ),
        (signed(&params(COVERED, NOW_S - WINDOW_S)), "taken"),
        (signed(&params(COVERED, NOW_S - WINDOW_S - 1)), "too_old"),
        (signed(&params(COVERED, NOW_S + WINDOW_S)), "taken"),
        (signed(&params(COVERED, NOW_S + WINDOW_S + 1)), "of_the_future"),
        (signed(&format!("{COVERED};created={NOW_S};keyid=\"k\";expires={}", NOW_S - 1)), "expired"),
        (signed(&format!("{COVERED};created={NOW_S};keyid=\"k\";expires={NOW_S}")), "taken"),
        (signed(&format!("{COVERED};created=-999999999999999;keyid=\"k\"")), "too_old"),
        (least().with(SIGNATURE, "sig=:AAAA:"), "bad_signature"),
        (digest("sha-512=:AAAA:"), "digest_missing"),
        (digest("sha-256=AAAA"), "malformed_header"),
        (digest("sha-256=:AAAA:"), "malformed_header"),
        (digest("sha-256=(1)"), "malformed_header"),
        (body, "digest_differs"),
    ] {
        assert_eq!(request.word(), word, "{:?}", request.check());
    }
    // Read before anything is verified: a request without the header lacks a covered component, too.
    let none = least().without(CONTENT_DIGEST);
    assert_eq!(none.word(), "component_missing");
    assert_eq!(none.on_head(|head| ContentDigest::read(head.fields)), Err(SignatureError::DigestMissing));
}

#[test]
fn no_error_repeats_what_was_sent() {
    let request =
        good().with(SIGNATURE_INPUT, r#"sig=("6217000012345678901");created=1;keyid=6217000012345678901"#);
    assert!(!request.check().unwrap_err().to_string().contains("6217"));
}

/// Every place of the request at which a byte can be another: method, target, each header's value, body.
fn places(request: &Request) -> usize {
    let headers: usize = request.fields.iter().map(|(_, value)| value.len()).sum();
    request.method.len() + request.target.len() + headers + request.body.len()
}

/// The same request with the byte at a place changed; `None` where that would be no HTTP, which never gets so far.
fn changed(request: &Request, mut place: usize, xor: u8) -> Option<Request> {
    let mut other = request.clone();
    let mut parts = vec![other.method.into_bytes(), other.target.into_bytes(), other.body];
    parts.extend(other.fields.iter().map(|(_, value)| value.clone()));
    let part = parts.iter_mut().find(|part| {
        let here = place < part.len();
        place -= if here { 0 } else { part.len() };
        here
    })?;
    part[place] ^= xor;
    let mut parts = parts.into_iter();
    other.method = String::from_utf8(parts.next()?).ok()?;
    other.target = String::from_utf8(parts.next()?).ok()?;
    other.body = parts.next()?;
    for ((_, value), part) in other.fields.iter_mut().zip(parts) {
        *value = part;
    }
    Some(other)
}

/// Every other byte at each place.
#[test]
fn a_changed_byte_of_method_path_body_or_header_is_refused() {
    let request = good();
    let mut tried = 0;
    for place in 0..places(&request) {
        for xor in 1..=255u8 {
            if let Some(other) = changed(&request, place, xor) {
                assert_ne!(other.word(), "taken", "place {place} xor {xor:02x}");
                tried += 1;
            }
        }
    }
    assert!(tried > 50_000, "{tried}");
}

proptest! {
    /// Whatever is cut out of the signature, put in or changed, only its own text is taken, and the same with space around it.
    #[test]
    fn only_the_signature_s_own_text_is_taken(place in 0..10_000usize, with in "[ -~]{0,3}", length in 0..3usize) {
        let request = good();
        let at = request.fields.iter().position(|(name, _)| name == SIGNATURE).unwrap();
        let value = request.fields[at].1.clone();
        let from = place % value.len();
        let upto = (from + length).min(value.len());
        let mut other = request.clone();
        other.fields[at].1.splice(from..upto, with.bytes());
        let same = other.fields[at].1.trim_ascii() == value.trim_ascii();
        let shown = String::from_utf8_lossy(&other.fields[at].1);
        prop_assert_eq!(other.check().is_ok(), same, "{}", shown);
    }

    /// Any bytes in the parsed headers end in a verdict.
    #[test]
    fn any_bytes_have_a_verdict(
        input in prop::collection::vec(any::<u8>(), 0..200),
        signature in "[ -~]{0,80}",
        digest in "[ -~]{0,80}",
    ) {
        let request = good()
            .with(SIGNATURE_INPUT, input)
            .with(SIGNATURE, signature)
            .with(CONTENT_DIGEST, digest);
        prop_assert!(request.check().is_err());
    }
}

#[test]
fn a_signature_on_two_lines_is_refused_whichever_is_right() {
    for name in [SIGNATURE, SIGNATURE_INPUT] {
        let good = good();
        let line = good.fields.iter().find(|(n, _)| n == name).unwrap().clone();
        for at in [0, good.fields.len()] {
            let mut twice = good.clone();
            twice.fields.insert(at, line.clone());
            assert_eq!(twice.word(), "malformed_header", "{name}");
        }
    }
}
