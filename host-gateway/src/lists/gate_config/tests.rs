use super::*;
use crate::lists::default_config;
use proptest::prelude::*;
use wavepass_protocol::lists::TAP_LIMIT_MS;

const RELAY: RelayLimits = RelayLimits { overhead_us: 2_000, grace_us: 300, cap_us: 10_000 };

fn text(config: &GateConfig) -> String {
    ConfigFile::of(config).to_toml().unwrap()
}

fn error(text: &str) -> String {
    parse("g.toml", text).unwrap_err().to_string()
}

#[test]
fn every_field_is_written_in_the_units_people_use() {
    let text = text(&GateConfig { relay: Some(RELAY), ..default_config() });
    for line in [
        "utc_offset = \"+08:00\"",
        "amount_fen = 100",
        "currency = \"0156\"",
        "country = \"0156\"",
        "passback = \"5m\"",
        "tap_limit = \"1s\"",
        "max_age = \"72h\"",
        "when_stale = \"refuse\"",
        "[relay]\noverhead_us = 2000\ngrace_us = 300\ncap_us = 10000",
        "aid = \"F0574156455041535301\"",
        "suites = [\"p256\"]",
        "ttq = \"21800080\"",
        "formats = [\"05\", \"95\"]",
        "domain_required = true",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in:\n{text}");
    }
}

#[test]
fn relay_limits_of_a_file_are_the_kernel_s() {
    let config = parse("g.toml", &text(&GateConfig { relay: Some(RELAY), ..default_config() })).unwrap();
    let kernel = wavepass_kernel::Config::new(&config, *b"WAVE", 1).unwrap();
    assert_eq!(kernel.relay, Some(RELAY));
    let off = text(&GateConfig { relay: Some(RelayLimits { cap_us: 0, ..RELAY }), ..default_config() });
    let kernel = wavepass_kernel::Config::new(&parse("g.toml", &off).unwrap(), *b"WAVE", 1).unwrap();
    assert_eq!(kernel.relay, None, "a cap of 0 times no card");
}

#[test]
fn two_suites_of_an_application_are_two_of_the_gate_s() {
    let file = text(&default_config()).replacen("suites = [\"rsa\"]", "suites = [\"rsa\", \"sm2\"]", 1);
    let config = parse("g.toml", &file).unwrap();
    assert_eq!(config.applications.len(), 5);
    let [_, rsa, sm2, ..] = &config.applications[..] else { panic!("{config:?}") };
    assert_eq!((rsa.suite, sm2.suite, &rsa.aid), (Suite::Rsa, Suite::Sm2, &sm2.aid));
    assert_eq!((&rsa.formats[..], &sm2.formats[..]), (&[0x05, 0x95][..], &[][..]));
    assert!(text(&config).contains("suites = [\"rsa\", \"sm2\"]"));
    let kernel = wavepass_kernel::Config::new(&config, *b"WAVE", 1).unwrap();
    assert_eq!((kernel.applications.len(), kernel.applications[1].sm2), (4, true));
}

#[test]
fn what_gates_would_refuse_is_named_with_line_and_column() {
    let good = text(&GateConfig { relay: Some(RELAY), ..default_config() });
    for (from, to, told) in [
        ("passback = ", "pasback = ", "1: unknown field `pasback`"),
        ("cap_us = ", "cap = ", "1: unknown field `cap`"),
        ("partial = ", "partly = ", "1: unknown field `partly`"),
        ("\"+08:00\"", "\"+14:01\"", "14: utc_offset: from -14:00"),
        ("\"+08:00\"", "\"8\"", "14: utc_offset: from -14:00"),
        ("amount_fen = 100", "amount_fen = 1000000000000", "14: amount_fen: at most"),
        ("amount_fen = 100", "amount_fen = -1", "14: invalid value: integer"),
        ("currency = \"0156\"", "currency = \"CNY\"", "12: currency: its ISO 4217"),
        ("country = \"0156\"", "country = \"01A6\"", "11: country: its ISO 3166"),
        ("\"5m\"", "\"5 parsecs\"", "12: passback: a time"),
        ("\"5m\"", "\"-5m\"", "12: passback: a time"),
        ("\"5m\"", "\"50000h\"", "12: passback: a time"),
        ("\"1s\"", "\"6s\"", "13: tap_limit: a time from"),
        ("\"1s\"", "\"99ms\"", "13: tap_limit: a time from"),
        ("\"72h\"", "\"1us\"", "11: deny_list.max_age: a time"),
        ("\"refuse\"", "\"shrug\"", "14: unknown variant, expected"),
        ("grace_us = 300", "grace_us = -300", "12: invalid value: integer"),
        ("F0574156455041535301", "F0574156", "7: aid: 5 to 16 bytes"),
        ("\"p256\"", "\"p256\", \"rsa\"", "10: suites: one of"),
        ("\"p256\"", "\"dsa\"", "11: unknown variant, expected"),
        ("formats = [\"05\", \"95\"]", "formats = [\"0595\"]", "11: formats: at most 4"),
        ("formats = [\"05\", \"95\"]\n", "", "10: formats: RSA needs"),
        ("[\"p256\"]", "[\"p256\"]\nformats = [\"05\"]", "11: formats: RSA's only"),
        ("A000000333010102", "A000000333010101", "7: this AID is there already"),
    ] {
        let bad = good.replacen(from, to, 1);
        let line = bad.lines().zip(good.lines()).take_while(|(bad, good)| bad == good).count() + 1;
        let found = error(&bad);
        assert!(found.starts_with("g.toml:") && found.contains(told), "{to}: {found}");
        // Of formats that are missing the suite is blamed, of those too many their own line.
        let near = found.split(':').nth(1).unwrap().parse::<usize>().unwrap().abs_diff(line);
        assert!(near <= 4 && (near == 0 || told.contains("formats")), "{to}: line {line}: {found}");
    }
    let ttq = good.replace("21800080", "21800000");
    assert!(error(&ttq).contains("7: ttq: RSA and SM2 need fDDA version 01"), "{}", error(&ttq));
    let (head, applications) = good.split_once("[[application]]").unwrap();
    assert!(error(&format!("application = []\n{head}")).contains("at least one application"));
    let one = applications.split("[[").next().unwrap();
    let more = |n: u8| format!("[[application]]{}", one.replacen("5301", &format!("53{n:02X}"), 1));
    let more: String = (0x10..0x15).map(more).collect();
    assert!(error(&format!("{good}{more}")).contains("at most 8 applications"));
    assert!(error(&good.replacen("amount_fen = 100\n", "", 1)).contains("missing field `amount_fen`"));
}

#[test]
fn the_guide_s_example_is_sound() {
    let guide = include_str!("../../../../docs/operating.md");
    let mut examples = guide.split("```toml\n").map(|rest| rest.split("```").next().unwrap());
    let example = examples.find(|text| text.starts_with("utc_offset")).unwrap();
    let config = parse("operating.md", example).unwrap();
    assert_eq!((config.relay, config.applications.len()), (Some(RELAY), 2));
}

#[test]
fn differences_have_the_file_s_names() {
    let new = GateConfig { relay: Some(RELAY), passback_ms: 1, ..default_config() };
    assert_eq!(differences(&default_config(), &new), ["passback", "relay"]);
    assert!(differences(&new, &new).is_empty());
}

fn application() -> impl Strategy<Value = Application> {
    let suite = prop_oneof![Just(Suite::P256), Just(Suite::Rsa), Just(Suite::Sm2)];
    let aid = prop::collection::vec(any::<u8>(), 5..=16);
    let formats = prop::collection::vec(any::<u8>(), 1..=4);
    (aid, suite, any::<[u8; 3]>(), any::<(bool, u8, bool)>(), formats).prop_map(
        |(aid, suite, [a, b, c], (partial, preference, domain_required), formats)| Application {
            aid: heapless::Vec::from_slice(&aid).unwrap(),
            partial,
            suite,
            ttq: [a, b, c, 0x80],
            preference,
            formats: match suite {
                Suite::Rsa => heapless::Vec::from_slice(&formats).unwrap(),
                Suite::P256 | Suite::Sm2 => heapless::Vec::new(),
            },
            domain_required,
        },
    )
}

fn config() -> impl Strategy<Value = GateConfig> {
    let code = (0..=9u16, 0..=9u16, 0..=9u16).prop_map(|(a, b, c)| a << 8 | b << 4 | c);
    let relay = prop::option::of(any::<(u32, u32, u32)>());
    let times = (any::<u32>(), TAP_LIMIT_MS, 0..=u64::from(u32::MAX) * 1_000, any::<bool>());
    (-840..=840i16, 0..=MAX_AMOUNT_FEN, code, times, prop::collection::vec(application(), 1..=4), relay)
        .prop_map(|(utc_offset_min, amount_fen, code, times, applications, relay)| GateConfig {
            utc_offset_min,
            amount_fen,
            currency: code,
            country: code,
            passback_ms: times.0,
            tap_limit_ms: times.1,
            list_max_age_ms: times.2,
            stale_opens: times.3,
            // RSA and SM2 of one identifier, too.
            applications: applications
                .iter()
                .flat_map(|a| {
                    let sm2 = Application { suite: Suite::Sm2, formats: heapless::Vec::new(), ..a.clone() };
                    [Some(a.clone()), (a.suite == Suite::Rsa).then_some(sm2)]
                })
                .flatten()
                .collect(),
            relay: relay.map(|(overhead_us, grace_us, cap_us)| RelayLimits { overhead_us, grace_us, cap_us }),
        })
}

proptest! {
    #[test]
    fn what_is_shown_reads_back_as_the_same(config in config()) {
        prop_assert_eq!(parse("g.toml", &text(&config)), Ok(config));
    }
}
