//! Concentrators, and their signed batches over a real socket.

use super::*;
use crate::api::codec;
use crate::api::testing::{Http, over};
use crate::intake::sealer::Sealer;
use crate::serve::Server;
use crate::testing::{Card, House, MORNING};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const PATH: &str = "/v1/taps/batches";
const NOW_S: u64 = MORNING / 1_000;
const COVERED: &str = r#""@method" "@path" "content-digest""#;

/// Adds a concentrator as anna; gives what its key file holds.
async fn add(house: &House, name: &str, gates: &str) -> Result<Signer, ConcentratorError> {
    let mut tx = house.app.store.begin().await?;
    let gates = gates.parse().unwrap();
    let (_, file) = add_in(&mut tx, &*house.app.clearing, (name, gates), "anna", UnixMs(MORNING)).await?;
    tx.commit().await?;
    let file: Value = serde_json::from_slice(&file).unwrap();
    let text = |field: &str| file[field].as_str().unwrap().to_owned();
    let key = codec::bytes(&text("key")).unwrap();
    assert_eq!((key.len(), text("algorithm").as_str(), text("name").as_str()), (32, "hmac-sha256", name));
    Ok(Signer { key_id: text("key_id"), key, covered: COVERED.to_owned(), created_s: NOW_S })
}

/// What signs a batch.
#[derive(Clone)]
struct Signer {
    key_id: String,
    key: Vec<u8>,
    covered: String,
    created_s: u64,
}

type Headers = Vec<(String, String)>;

impl Signer {
    /// The three headers of a batch, by RFC 9421's text alone: nothing of the verifier's is used.
    fn sign(&self, authority: &str, body: &[u8]) -> Headers {
        let digest = format!("sha-256=:{}:", codec::base64(&Sha256::digest(body)));
        let params = format!("({});created={};keyid=\"{}\"", self.covered, self.created_s, self.key_id);
        let mut base = String::new();
        for name in self.covered.split(' ') {
            let value = match name {
                "\"@method\"" => "POST".to_owned(),
                "\"@path\"" => PATH.to_owned(),
                "\"@target-uri\"" => format!("https://{authority}{PATH}"),
                _ => digest.clone(),
            };
            base += &format!("{name}: {value}\n");
        }
        base += &format!("\"@signature-params\": {params}");
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).unwrap();
        mac.update(base.as_bytes());
        let signature = format!("sig1=:{}:", codec::base64(&mac.finalize().into_bytes()));
        [("content-digest", digest), ("signature-input", format!("sig1={params}")), ("signature", signature)]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec()
    }

    async fn post(&self, http: &Http, body: &Value) -> (u16, Value) {
        let body = body.to_string().into_bytes();
        post(http, self.sign(http.authority(), &body), body).await
    }

    /// The word that a batch is refused with.
    async fn refused(&self, http: &Http, body: &Value) -> String {
        self.post(http, body).await.1["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

async fn post(http: &Http, headers: Headers, body: Vec<u8>) -> (u16, Value) {
    let (status, text) = http.send("POST", PATH, headers, body).await;
    (status, serde_json::from_str(&text).unwrap())
}

fn batch(entries: &[Vec<u8>]) -> Value {
    json!({ "entries": entries.iter().map(|entry| sql::hex(entry)).collect::<Vec<_>>() })
}

fn taps(gate: &mut Sealer, card: u32, atcs: std::ops::RangeInclusive<u16>) -> Vec<Vec<u8>> {
    atcs.map(|atc| Card::new(card).tap(u64::from(atc) * 60_000, atc).seal(gate)).collect()
}

async fn entries_in(house: &House) -> i64 {
    house.count("SELECT count(*) FROM entries").await + house.count("SELECT count(*) FROM set_aside").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_batch_is_taken_and_sent_again_counts_once() {
    let (house, _server, http) = over(House::new().await).await;
    let (mut one, mut two) = (house.gate(1).await, house.gate(2).await);
    let signer = add(&house, "tram depot", "1-2").await.unwrap();
    let batch = batch(&[taps(&mut one, 1, 1..=2), taps(&mut two, 2, 1..=1)].concat());
    let body = batch.to_string().into_bytes();
    let headers = signer.sign(http.authority(), &body);
    // The very same request, and one that is signed anew.
    for (round, headers) in ["accepted", "repeated"].into_iter().zip([headers.clone(), headers]) {
        let (status, answer) = post(&http, headers, body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            answer["verdicts"],
            json!([{ "verdict": round }, { "verdict": round }, { "verdict": round }])
        );
    }
    assert_eq!(signer.post(&http, &batch).await.1["verdicts"][2]["verdict"], "repeated");
    assert_eq!(house.count("SELECT count(*) FROM taps").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gate_s_entry_refuses_the_batch_by_name_and_nothing_of_it_is_taken() {
    let (house, _server, http) = over(House::new().await).await;
    let (mut own, mut other) = (house.gate(1).await, house.gate(5).await);
    let signer = add(&house, "tram depot", "1-4,6").await.unwrap();
    let good = taps(&mut own, 1, 1..=1);
    let with = |entry: Vec<u8>| batch(&[good.clone(), vec![entry]].concat());
    let (status, answer) = signer.post(&http, &with(taps(&mut other, 2, 1..=1).remove(0))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (403, Some("other_gate")));
    assert!(answer["error"]["message"].as_str().unwrap().contains("entry 1 is of gate 5"), "{answer}");
    // A gate that nobody commissioned: number 4 in the key id.
    let mut foreign = good[0].clone();
    foreign[8] = 4;
    assert_eq!(signer.refused(&http, &with(foreign)).await, "no_gate");
    assert_eq!(signer.refused(&http, &with(vec![0])).await, "entry_unreadable");
    assert_eq!(entries_in(&house).await, 0);
    assert_eq!(signer.post(&http, &batch(&good)).await.0, 200);
    // A gate that was retired is still its own: late taps come in.
    let late = taps(&mut own, 1, 2..=2);
    house.command(&["gate", "retire", "--id", "1"]).await;
    assert_eq!(signer.post(&http, &batch(&late)).await.1["verdicts"][0]["verdict"], "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_its_own_name_and_nothing_is_taken() {
    let config = "[http]\nmax_body = 4000\n[concentrators]\nwindow_s = 60\nscheme = 'https'\n";
    let (house, _server, http) = over(House::with(config).await).await;
    let mut gate = house.gate(1).await;
    let signer = add(&house, "tram depot", "1").await.unwrap();
    let retired = add(&house, "bus depot", "1").await.unwrap();
    house.command(&["concentrator", "retire", "bus depot"]).await;
    let batch = batch(&taps(&mut gate, 1, 1..=1));
    let body = batch.to_string().into_bytes();
    let other = |change: &dyn Fn(&mut Signer)| {
        let mut other = signer.clone();
        change(&mut other);
        other
    };
    for (signer, status, word) in [
        (retired.clone(), 401, "retired_key"),
        (other(&|s| s.key_id = "wpc-0000000000000000".into()), 401, "unknown_key"),
        (other(&|s| s.key[31] ^= 1), 401, "bad_signature"),
        (other(&|s| s.key_id.clone_from(&retired.key_id)), 401, "retired_key"),
        (other(&|s| s.created_s = NOW_S - 61), 401, "too_old"),
        (other(&|s| s.created_s = NOW_S + 61), 401, "of_the_future"),
        (other(&|s| s.covered = r#""@method" "@path""#.into()), 400, "component_not_covered"),
        (other(&|s| s.covered = r#""@method" "content-digest""#.into()), 400, "component_not_covered"),
    ] {
        let (had, answer) = signer.post(&http, &batch).await;
        assert_eq!((had, answer["error"]["code"].as_str()), (status, Some(word)), "{answer}");
    }
    let headers = signer.sign(http.authority(), &body);
    let without = |name: &str| headers.iter().filter(|(n, _)| n != name).cloned().collect::<Headers>();
    let with = |name: &str, value: &str| [without(name), vec![(name.to_owned(), value.to_owned())]].concat();
    let longer = [body.clone(), vec![b' '; 5_000]].concat();
    for (headers, body, status, word) in [
        (without("signature"), &body, 400, "header_missing"),
        (without("signature-input"), &body, 400, "header_missing"),
        (without("content-digest"), &body, 400, "digest_missing"),
        (with("content-digest", "sha-256=AAAA"), &body, 400, "malformed_header"),
        (with("signature-input", "sig1=("), &body, 400, "malformed_header"),
        (with("signature", "sig1=:AAAA:"), &body, 401, "bad_signature"),
        (headers.clone(), &[&body[..], b" "].concat(), 400, "digest_differs"),
        // Its length is told before it is hashed, and who it is of before it is read.
        (headers.clone(), &longer, 413, "body_too_large"),
        (with("signature", "sig1=:AAAA:"), &longer, 401, "bad_signature"),
    ] {
        let (had, answer) = post(&http, headers, body.clone()).await;
        assert_eq!((had, answer["error"]["code"].as_str()), (status, Some(word)), "{answer}");
    }
    assert_eq!(entries_in(&house).await, 0);
    let whole = other(&|s| s.covered = r#""@method" "@target-uri" "content-digest""#.into());
    for signer in [signer.clone(), other(&|s| s.created_s = NOW_S - 60), whole] {
        assert_eq!(signer.post(&http, &batch).await.0, 200);
    }
    // A signature opens this door alone.
    let (status, _) = http.send("GET", "/v1/concentrators", headers, Vec::new()).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_key_is_nowhere_clear_in_the_store_and_opens_in_its_own_row_only() {
    let house = House::new().await;
    let one = add(&house, "one", "1").await.unwrap();
    let other = add(&house, "other", "2").await.unwrap();
    let keys = &*house.app.clearing;
    let found = find(&house.app.store, keys, &one.key_id).await.unwrap().unwrap();
    assert_eq!((found.0.name.as_str(), &found.1[..]), ("one", &one.key[..]));
    assert_ne!((&one.key, &one.key_id), (&other.key, &other.key_id));
    let sealed: Vec<Vec<u8>> =
        query("SELECT sealed_key FROM concentrators").column(house.app.store.pool()).await.unwrap();
    assert!(sealed.iter().all(|sealed| !sealed.windows(32).any(|part| part == one.key)));
    let mut tx = house.app.store.begin().await.unwrap();
    let swap =
        "UPDATE concentrators SET sealed_key = (SELECT sealed_key FROM concentrators WHERE name = 'other')";
    query(swap).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let error = find(&house.app.store, keys, &one.key_id).await.err().unwrap();
    assert_eq!(error.to_string(), "the database holds a damaged key of a concentrator");
}

#[tokio::test]
async fn a_name_is_one_s_at_a_time_and_each_change_has_its_line_in_the_audit_log() {
    let house = House::new().await;
    let first = add(&house, "tram depot", "1,2,7-9").await.unwrap();
    for name in ["tram depot", " tram depot "] {
        assert!(matches!(add(&house, name, "3").await, Err(ConcentratorError::InService)));
    }
    for name in ["", "  ", "6217000012345678901", "a\nb", "tram\u{202E}depot", "tram depot\u{200B}"] {
        assert!(matches!(add(&house, name, "3").await, Err(ConcentratorError::Name(_))), "{name}");
    }
    let said = house.command(&["concentrator", "retire", "tram depot "]).await;
    assert_eq!(
        said,
        format!("concentrator tram depot is out of service; its key {} is refused", first.key_id)
    );
    assert!(matches!(retire(&house.app, "tram depot", "anna").await, Err(ConcentratorError::Unknown)));
    let second = add(&house, "tram depot", "1").await.unwrap();
    assert_ne!(first.key_id, second.key_id);
    let lines = "SELECT \"user\" || ' ' || action || ' ' || subject || ': ' || detail FROM audit_log \
                 WHERE action LIKE 'concentrator.%' ORDER BY id";
    assert_eq!(
        house.texts(lines).await,
        [
            format!("anna concentrator.add {}: tram depot, gates 1-2,7-9", first.key_id),
            format!("anna concentrator.retire {}: tram depot, gates 1-2,7-9", first.key_id),
            format!("anna concentrator.add {}: tram depot, gates 1", second.key_id),
        ]
    );
    let shown = house.command(&["concentrator", "list"]).await;
    assert!(shown.contains(&second.key_id) && !shown.contains(&first.key_id), "{shown}");
    let shown = house.command(&["concentrator", "list", "--all", "--json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["concentrators"].as_array().unwrap().len(), 2);
    assert!(!shown.to_string().contains(&codec::base64(&second.key)));
}

const BROUGHT: &str = "SELECT CAST(from_sequence AS TEXT) || '-' || CAST(upto_sequence AS TEXT) || ' ' || concentrator \
     FROM brought ORDER BY from_sequence";

#[tokio::test(flavor = "multi_thread")]
async fn who_brought_which_entries_is_kept_in_runs_and_how_much_in_days() {
    let (house, _server, http) = over(House::new().await).await;
    let (mut gate, mut other) = (house.gate(1).await, house.gate(5).await);
    let one = add(&house, "one", "1").await.unwrap();
    let two = add(&house, "two", "1").await.unwrap();
    let entries = taps(&mut gate, 1, 1..=8);
    let mut forged = entries[5].clone();
    forged[40] ^= 1;
    let bring = async |signer: &Signer, entries: &[Vec<u8>]| signer.post(&http, &batch(entries)).await.0;
    assert_eq!(bring(&one, &entries[..2]).await, 200);
    assert_eq!(bring(&one, &entries[1..3]).await, 200);
    assert_eq!(bring(&two, &entries[3..5]).await, 200);
    for _ in 0..2 {
        assert_eq!(bring(&one, &[forged.clone(), entries[6].clone()]).await, 200);
    }
    assert_eq!(bring(&one, &taps(&mut other, 2, 1..=1)).await, 403);
    assert_eq!(bring(&one, &entries[5..]).await, 200);
    let runs = [("1-3", &one), ("4-5", &two), ("6-8", &one)];
    assert_eq!(house.texts(BROUGHT).await, runs.map(|(run, by)| format!("{run} {}", by.key_id)));
    assert_eq!(house.texts("SELECT concentrator FROM set_aside").await, std::slice::from_ref(&one.key_id));
    let details = house.texts("SELECT detail FROM breaks WHERE kind = 'unopened'").await;
    assert!(details[0].starts_with(&format!("forged 6 by {} ", one.key_id)), "{details:?}");
    let shown: Value =
        serde_json::from_str(&house.command(&["concentrator", "list", "--json"]).await).unwrap();
    let heard = json!({ "last_ms": MORNING, "requests": 6, "refused": 1, "accepted": 6, "repeated": 1, "set_aside": 1,
        "not_kept": 0, "gaps": 2 });
    assert_eq!(
        (&shown["concentrators"][0]["name"], &shown["concentrators"][0]["heard"]),
        (&json!("one"), &heard)
    );
    assert_eq!(shown["concentrators"][1]["heard"]["accepted"], 2);
    let shown = house.command(&["concentrator", "list"]).await;
    let row = shown.lines().find(|line| line.contains(&one.key_id)).unwrap();
    let told: Vec<&str> = row.split_whitespace().skip(4).collect();
    assert_eq!(told, ["2026-11-23T00:00:00Z", "6", "1", "6", "1", "1"], "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_entries_fill_the_store_up_to_a_bound_a_day_and_hold_up_nobody() {
    let (house, _server, http) = over(House::new().await).await;
    let mut gate = house.gate(1).await;
    let one = add(&house, "one", "1").await.unwrap();
    let two = add(&house, "two", "1").await.unwrap();
    let entry = taps(&mut gate, 1, 1..=1).remove(0);
    let mut made = 0_u16;
    let mut forged = |count: usize| -> Vec<Vec<u8>> {
        std::iter::repeat_with(|| {
            made += 1;
            let mut forged = entry.clone();
            forged[40..42].iter_mut().zip(made.to_be_bytes()).for_each(|(byte, change)| *byte ^= change);
            forged
        })
        .take(count)
        .collect()
    };
    let words = async |signer: &Signer, entries: &[Vec<u8>]| -> Vec<String> {
        let (status, answer) = signer.post(&http, &batch(entries)).await;
        assert_eq!((status, &answer["acknowledged"]), (200, &json!({})), "{answer}");
        let verdicts = answer["verdicts"].as_array().unwrap();
        verdicts.iter().map(|verdict| verdict["verdict"].as_str().unwrap().to_owned()).collect()
    };
    let first = forged(1_002);
    let told = words(&one, &first).await;
    assert!(told[..1_000].iter().all(|word| word == "set_aside"));
    assert_eq!(told[1_000..], ["not_kept", "not_kept"]);
    assert_eq!(words(&one, &[&first[..1], &forged(1)].concat()).await, ["set_aside", "not_kept"]);
    assert_eq!(words(&two, &forged(1)).await, ["set_aside"]);
    assert_eq!(house.count("SELECT count(*) FROM set_aside").await, 1_001);
    let full = "SELECT subject FROM breaks WHERE kind = 'set_aside_full'";
    assert_eq!(house.texts(full).await, std::slice::from_ref(&one.key_id));
    assert_eq!(house.count("SELECT count(*) FROM breaks").await, 1_002);
    // On another day there is room again.
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    let later = Signer { created_s: NOW_S + 24 * 3_600, ..one };
    assert_eq!(words(&later, &forged(1)).await, ["set_aside"]);
    // And the gate's own entry has its place.
    assert_eq!(house.ingest_over_link(&gate, &[entry]).await, ["accepted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_signature_is_counted_by_its_reason_and_writes_nothing() {
    let (house, _server, http) = over(House::new().await).await;
    let signer = add(&house, "tram depot", "1").await.unwrap();
    let count = || {
        let text = crate::api::metrics_handle().render();
        let line = "wavepass_concentrator_refusals_total{reason=\"expired\"} ";
        text.lines().find_map(|text| text.strip_prefix(line)).map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let before = count();
    let body = batch(&[]).to_string().into_bytes();
    let mut headers = signer.sign(http.authority(), &body);
    headers[1].1 += &format!(";expires={}", NOW_S - 1);
    for _ in 0..3 {
        let (status, answer) = post(&http, headers.clone(), body.clone()).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (401, Some("expired")));
    }
    assert_eq!(count() - before, 3);
    assert_eq!(house.count("SELECT count(*) FROM concentrator_days").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_they_are_listed_by_pages_and_retired() {
    let (house, _server, http) = over(House::new().await).await;
    for name in ["b", "c", "a"] {
        add(&house, name, "1").await.unwrap();
    }
    let mut path = "/v1/concentrators?limit=1".to_owned();
    for name in ["a", "b", "c"] {
        let (status, answer) = http.admin("GET", &path, None).await;
        let found = &answer["concentrators"];
        assert_eq!(
            (status, found[0]["name"].as_str(), found[1].is_null()),
            (200, Some(name), true),
            "{answer}"
        );
        path = format!("/v1/concentrators?limit=1&after={}", found[0]["key_id"].as_str().unwrap());
    }
    assert_eq!(http.admin("GET", &path, None).await.1["concentrators"], json!([]));
    let (status, answer) = http.admin("POST", "/v1/concentrators/b/retire", None).await;
    assert_eq!((status, answer["retired_ms"].as_u64()), (200, Some(MORNING)));
    let (status, answer) = http.admin("POST", "/v1/concentrators/b/retire", None).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (404, Some("no_concentrator")));
    for (path, count) in [("/v1/concentrators", 2), ("/v1/concentrators?all=true", 3)] {
        let answer = http.admin("GET", path, None).await.1;
        assert_eq!(answer["concentrators"].as_array().unwrap().len(), count, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_adds_commissions_and_retires_the_others_know_at_once() {
    let one = House::on_postgres().await;
    let (_beside, _server, http): (House, Server, Http) = over(one.beside().await).await;
    let signer = add(&one, "tram depot", "1").await.unwrap();
    let mut gate = one.gate(1).await;
    let mut next = |atc| batch(&taps(&mut gate, 1, atc..=atc));
    let (status, answer) = signer.post(&http, &next(1)).await;
    assert_eq!(status, 200, "{answer}");
    one.command(&["concentrator", "retire", "tram depot"]).await;
    assert_eq!(signer.refused(&http, &next(2)).await, "retired_key");
    assert_eq!(one.count("SELECT count(*) FROM taps").await, 1);
}
