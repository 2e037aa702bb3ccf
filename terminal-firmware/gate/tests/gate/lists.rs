//! Lists: only what the root's list key signed, newer and whole, comes into force; and it is in force at the next tap.

use crate::common::{
    self, Chip, Heard, Host, LIST_AGE_MS, MORNING, Place, SECOND, TestGate, WAIT_MS, config, decide, encode,
    last_day, memory, refused, start, tap, try_idle, try_tap, version, versions_in_force, working_gate,
};
use wavepass_gate::{Gate, Now};
use wavepass_journal::Limits;
use wavepass_journal::cells::Cell;
use wavepass_journal::sim::block_on;
use wavepass_protocol::ecc::SigningKey;
use wavepass_protocol::link::{FromHost, MAX_PART};
use wavepass_protocol::lists::{HEAD, Header, Kind, ListError, MAX_ISSUE, PREFIX, Revocation, Version};
use wavepass_protocol::tap::{ClockQuality, Decision, Reason};
use wavepass_protocol::time::UnixMs;

/// What the gate says of a list that it is sent under this version.
fn send(host: &mut Host, gate: &mut TestGate, kind: Kind, version: Version, list: &[u8]) -> Vec<Heard> {
    let mut line = host.connect(gate);
    line.hear(gate);
    line.send_list(gate, kind, version, list)
}

/// The list is refused for this reason, and what is in force stays, in memory and in flash.
fn assert_refused(
    host: &mut Host,
    gate: &mut TestGate,
    chip: &Chip,
    kind: Kind,
    list: &[u8],
    why: ListError,
) {
    // The deny list is written beside the one in force before its content can be judged.
    let judged_late = kind == Kind::Deny && why == ListError::Content;
    let flash = || {
        let mut flash = chip.content();
        let (from, to) = chip.range(Place::Deny);
        if judged_late {
            flash[from..to].fill(0);
        }
        flash
    };
    let (before, flash_before) = (versions_in_force(gate), flash());
    let heard = send(host, gate, kind, version(9), list);
    assert_eq!(heard, [Heard::ListRefused(kind, version(9), why)]);
    assert_eq!(versions_in_force(gate), before, "{why}");
    assert!(flash_before == flash(), "{why} changed the flash");
    let mut phone = host.phone(1);
    assert_eq!(decide(gate, &mut phone, MORNING), Decision::Open, "{why}: the gate works on");
}

#[test]
fn a_list_with_any_bit_changed_is_refused() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let list = host.list(Kind::Deny, version(9), &host.deny(&[1]));
    for bit in (0..list.len() * 8).step_by(5) {
        let mut changed = list.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let heard = send(&mut host, &mut gate, Kind::Deny, version(9), &changed);
        assert!(matches!(heard[..], [Heard::ListRefused(Kind::Deny, _, _)]), "bit {bit}: {heard:?}");
        assert_eq!(gate.version(Kind::Deny), version(1));
    }
    send(&mut host, &mut gate, Kind::Deny, version(9), &list);
    assert_eq!(gate.version(Kind::Deny), version(9), "unchanged it is taken");
}

#[test]
fn a_list_that_the_list_key_did_not_sign_is_refused() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut list = host.list(Kind::Deny, version(9), &host.deny(&[1]));
    let end = HEAD - 64;
    let thief = SigningKey::from_bytes(&[0x33; 32]).unwrap();
    let signature = thief.sign(&[&list[..end]], [1; 32]);
    list[end..HEAD].copy_from_slice(&signature);
    assert_refused(&mut host, &mut gate, &chip, Kind::Deny, &list, ListError::Signature);
}

#[test]
fn a_list_key_that_the_root_did_not_sign_is_refused() {
    let chip = Chip::new(8);
    let mut host = Host::new();
    let mut gate = working_gate(&mut host, &chip);
    // A thief's list key, which he vouches for himself.
    let mut thief = Host::new();
    thief.root = SigningKey::from_bytes(&[0x33; 32]).unwrap();
    thief.list_key = SigningKey::from_bytes(&[0x34; 32]).unwrap();
    let list = thief.list(Kind::Deny, version(9), &host.deny(&[1]));
    assert_refused(&mut host, &mut gate, &chip, Kind::Deny, &list, ListError::ListKey);
}

#[test]
fn a_new_list_key_that_the_root_signed_is_taken() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    host.list_key = SigningKey::from_bytes(&[0x44; 32]).unwrap();
    let deny = host.deny(&[1]);
    host.send_list(&mut gate, Kind::Deny, &deny);
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING), refused(Reason::Denied));
}

#[test]
fn an_older_version_is_refused_and_a_new_epoch_is_newer() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let content = host.deny(&[]);
    let list = |host: &Host, version| host.list(Kind::Deny, version, &content);
    let five = list(&host, version(5));
    send(&mut host, &mut gate, Kind::Deny, version(5), &five);
    for old in [version(5), version(4), Version { epoch: 0, version: 99 }] {
        let bytes = list(&host, old);
        let heard = send(&mut host, &mut gate, Kind::Deny, old, &bytes);
        assert_eq!(heard, [Heard::ListRefused(Kind::Deny, old, ListError::Older)]);
    }
    // Announced as new, but signed as old.
    let four = list(&host, version(4));
    assert_refused(&mut host, &mut gate, &chip, Kind::Deny, &four, ListError::Older);
    // Also after a restart.
    let mut gate = start(&chip).unwrap();
    assert_refused(&mut host, &mut gate, &chip, Kind::Deny, &four, ListError::Older);

    let restored = Version { epoch: 2, version: 1 };
    let bytes = list(&host, restored);
    send(&mut host, &mut gate, Kind::Deny, restored, &bytes);
    assert_eq!(gate.version(Kind::Deny), restored);
}

#[test]
fn a_list_of_another_kind_than_announced_is_refused() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let empty = host.list(Kind::Revocations, version(9), &[]);
    assert_refused(&mut host, &mut gate, &chip, Kind::CaKeys, &empty, ListError::Format);
}

#[test]
fn a_delta_of_a_small_list_is_refused() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    for kind in [Kind::CaKeys, Kind::Revocations, Kind::Config] {
        let mut list = host.list(kind, version(9), &encode(&config()));
        list[PREFIX - 1] = 1;
        assert_refused(&mut host, &mut gate, &chip, kind, &list, ListError::Base);
    }
}

#[test]
fn content_that_is_not_what_was_signed_is_refused() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    for (kind, content) in [(Kind::CaKeys, host.ca_keys(last_day(2041))), (Kind::Config, encode(&config()))] {
        let mut list = host.list(kind, version(9), &content);
        *list.last_mut().unwrap() ^= 1;
        assert_refused(&mut host, &mut gate, &chip, kind, &list, ListError::Hash);
    }
}

#[test]
fn a_ca_key_whose_check_value_is_wrong_is_refused() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut content = host.ca_keys(last_day(2040));
    *content.last_mut().unwrap() ^= 1;
    let list = host.list(Kind::CaKeys, version(9), &content);
    assert_refused(&mut host, &mut gate, &chip, Kind::CaKeys, &list, ListError::CheckValue);
}

#[test]
fn malformed_content_is_refused_though_it_is_signed() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut unordered = host.deny(&[1, 2]);
    let entries = unordered.len() - 8;
    unordered[entries..].rotate_left(4);
    let mut amount = config();
    amount.amount_fen = 1_000_000_000_000;
    let cut_short = |content: Vec<u8>| content[..content.len() - 1].to_vec();
    let cases = [
        (Kind::Deny, unordered),
        (Kind::Deny, vec![]),
        (Kind::CaKeys, cut_short(host.ca_keys(last_day(2040)))),
        (Kind::Revocations, vec![1, 2, 3]),
        (Kind::Config, cut_short(encode(&config()))),
        (Kind::Config, encode(&amount)),
    ];
    for (kind, content) in cases {
        let list = host.list(kind, version(9), &content);
        assert_refused(&mut host, &mut gate, &chip, kind, &list, ListError::Content);
    }
}

#[test]
fn a_configuration_that_the_kernel_cannot_work_by_does_not_replace_one_that_it_can() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut no_formats = config();
    no_formats.applications[1].formats.clear();
    let mut no_fdda = config();
    no_fdda.applications[1].ttq = [0; 4];
    for bad in [no_formats, no_fdda] {
        let list = host.list(Kind::Config, version(9), &encode(&bad));
        assert_refused(&mut host, &mut gate, &chip, Kind::Config, &list, ListError::Content);
    }
}

#[test]
fn a_list_too_large_for_memory_or_for_its_area_is_refused() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    // More than the deny list's area; more than the area of revocations; more of them than the gate holds; more CA
    // keys than it holds.
    let many = (0..65).map(|n| Revocation { rid: [1; 5], index: 1, serial: [0, 0, n] });
    let many: Vec<u8> = many.flat_map(|r| encode(&r)).collect();
    let keys = host.ca_keys(last_day(2040)).repeat(60);
    assert!(PREFIX + keys.len() > MAX_ISSUE - 24);
    let cases = [
        (Kind::Deny, vec![0; 8_192]),
        (Kind::Revocations, vec![0; 5_000]),
        (Kind::Revocations, many),
        (Kind::CaKeys, keys),
    ];
    for (kind, content) in cases {
        let list = host.list(kind, version(9), &content);
        assert_refused(&mut host, &mut gate, &chip, kind, &list, ListError::TooLarge);
    }
}

#[test]
fn parts_out_of_order_are_refused_once_and_the_list_can_be_sent_anew() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let list = host.list(Kind::Deny, version(9), &host.deny(&(0..400).collect::<Vec<_>>()));
    let total = list.len() as u32;
    let parts: Vec<&[u8]> = list.chunks(MAX_PART).collect();
    assert!(parts.len() >= 4);
    let orders: [&[usize]; 5] = [&[0, 2, 1, 3], &[0, 1, 1, 2], &[0, 2, 3], &[1, 2, 3], &[0, 1, 3]];
    for order in orders {
        let mut line = host.connect(&mut gate);
        line.hear(&mut gate);
        for &i in order {
            let offset = (i * MAX_PART) as u32;
            let message =
                FromHost::ListPart { kind: Kind::Deny, version: version(9), total, offset, part: parts[i] };
            line.say(&mut gate, &message);
        }
        let heard = line.hear(&mut gate);
        let named = [Heard::ListRefused(Kind::Deny, version(9), ListError::Length)];
        assert!(heard == named || (order[0] != 0 && heard.is_empty()), "{order:?}: {heard:?}");
        assert_eq!(gate.version(Kind::Deny), version(1), "{order:?}");
        if order == orders[4] {
            line.send_list(&mut gate, Kind::Deny, version(9), &list);
        }
    }
    assert_eq!(gate.version(Kind::Deny), version(9));
}

#[test]
fn a_part_of_another_list_in_between_drops_what_was_gathered() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let deny = host.list(Kind::Deny, version(9), &host.deny(&(0..150).collect::<Vec<_>>()));
    let ca = host.list(Kind::CaKeys, version(9), &host.ca_keys(last_day(2041)));
    let mut line = host.connect(&mut gate);
    line.hear(&mut gate);
    let first = FromHost::ListPart {
        kind: Kind::Deny,
        version: version(9),
        total: deny.len() as u32,
        offset: 0,
        part: &deny[..MAX_PART],
    };
    line.say(&mut gate, &first);
    line.send_list(&mut gate, Kind::CaKeys, version(9), &ca);
    assert_eq!(gate.version(Kind::CaKeys), version(9));
    let rest = FromHost::ListPart {
        kind: Kind::Deny,
        version: version(9),
        total: deny.len() as u32,
        offset: MAX_PART as u32,
        part: &deny[MAX_PART..],
    };
    line.say(&mut gate, &rest);
    assert_eq!(gate.version(Kind::Deny), version(1));
}

#[test]
fn a_cut_while_a_list_is_stored_leaves_the_old_one_or_the_new_one() {
    let mut host = Host::new();
    let base = Chip::new(4);
    let mut gate = working_gate(&mut host, &base);
    // One replacement before, so that both halves of the area have been used.
    let deny = host.deny(&[50]);
    host.send_list(&mut gate, Kind::Deny, &deny);
    drop(gate);
    let (old, new) = (version(2), version(3));
    let list = host.list(Kind::Deny, new, &host.deny(&(1..=60).collect::<Vec<_>>()));

    let feed = |host: &mut Host, gate: &mut TestGate| {
        let mut line = host.connect(gate);
        line.hear(gate);
        let frames = line.list_frames(Kind::Deny, new, &list);
        frames.iter().try_for_each(|frame| line.try_feed(gate, frame).map(|link| link.unwrap()))?;
        try_idle(gate)
    };
    let whole = base.copy();
    let mut gate = start(&whole).unwrap();
    let began = whole.words();
    feed(&mut host, &mut gate).unwrap();
    let words = whole.words() - began;
    assert!(words > 100, "{words} words");
    let mut taken = 0;
    for flips in [0, u64::MAX, 0x5A3C_0FF0_9669_1E87] {
        for after in 0..words {
            let chip = base.copy();
            let mut gate = start(&chip).unwrap();
            chip.cut(after, flips);
            assert_eq!(feed(&mut host, &mut gate), Err(common::POWER_CUT));
            assert_eq!(gate.version(Kind::Deny), old, "not in force before it is stored");
            drop(gate);
            assert!(chip.power_on());
            let mut gate = start(&chip).unwrap();
            let found = gate.version(Kind::Deny);
            assert!(found == old || found == new, "cut after word {after}: {found:?}");
            taken += u32::from(found == new);
            let listed = decide(&mut gate, &mut host.phone(1), MORNING) == refused(Reason::Denied);
            assert_eq!(listed, found == new, "cut after word {after}: version and content agree");
            assert_eq!(decide(&mut gate, &mut host.phone(50), MORNING), refused(Reason::Denied));
            if found == old {
                feed(&mut host, &mut gate).unwrap();
                assert_eq!(gate.version(Kind::Deny), new);
            }
        }
    }
    assert!((1..=6).contains(&taken), "the end of the header decides: {taken}");
}

#[test]
fn lists_are_in_force_again_after_a_restart_and_a_damaged_one_is_as_good_as_none() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let deny = host.deny(&[1]);
    host.send_list(&mut gate, Kind::Deny, &deny);
    drop(gate);
    let mut gate = start(&chip).unwrap();
    assert_eq!(versions_in_force(&gate), [2, 1, 1, 1]);
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING), refused(Reason::Denied));
    drop(gate);
    // Somebody writes another root's list into the area.
    let mut thief = Host::new();
    thief.root = SigningKey::from_bytes(&[0x33; 32]).unwrap();
    let forged = thief.list(Kind::Config, version(7), &encode(&config()));
    let mut cell = block_on(Cell::open(chip.area(Place::Config)));
    block_on(cell.as_mut().unwrap().store(&forged)).unwrap();
    let mut gate = start(&chip).unwrap();
    assert_eq!(versions_in_force(&gate), [2, 1, 1, 0]);
    assert_eq!(decide(&mut gate, &mut host.phone(2), MORNING), refused(Reason::OutOfService));
}

#[test]
fn a_gate_whose_deny_list_cannot_be_read_does_not_start_without_it() {
    let mut host = Host::new();
    let chip = Chip::new(4);
    let mut gate = working_gate(&mut host, &chip);
    let deny = host.deny(&[1]);
    host.send_list(&mut gate, Kind::Deny, &deny);
    drop(gate);
    let mut refused_to_start = 0;
    for reads in 0..100 {
        let mut areas = chip.areas();
        areas.lists[0] = chip.area(Place::Deny).dying_after(reads);
        let started: Result<Gate<_, _>, _> = block_on(Gate::start(areas, Limits::default(), memory()));
        let Ok(gate) = started else {
            refused_to_start += 1;
            continue;
        };
        // It looks up in flash: where that fails it opens for nobody.
        let now = common::synchronised(MORNING);
        if let Ok(presented) = try_tap(&mut Box::new(gate), &mut host.phone(1), now) {
            assert_eq!(presented.decision, refused(Reason::Denied));
            break;
        }
        assert!(reads < 99);
    }
    assert!((3..100).contains(&refused_to_start), "after {refused_to_start} reads");
}

#[test]
fn a_new_deny_list_refuses_the_card_at_its_next_tap_and_a_newer_one_lets_it_in() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let (mut debtor, mut other) = (host.phone(1), host.phone(2));
    assert_eq!(decide(&mut gate, &mut debtor, MORNING), Decision::Open);
    let deny = host.deny(&[1]);
    host.send_list(&mut gate, Kind::Deny, &deny);
    assert_eq!(decide(&mut gate, &mut debtor, MORNING + WAIT_MS), refused(Reason::Denied));
    assert_eq!(decide(&mut gate, &mut other, MORNING + WAIT_MS), Decision::Open);
    let deny = host.deny(&[]);
    host.send_list(&mut gate, Kind::Deny, &deny);
    assert_eq!(decide(&mut gate, &mut debtor, MORNING + WAIT_MS + SECOND), Decision::Open);
}

#[test]
fn a_revoked_issuer_is_refused_though_it_was_remembered() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING), Decision::Open);
    let issuer = host.authority.issuer();
    let revoked = Revocation { rid: issuer.rid(), index: issuer.ca_index(), serial: [0, 0, 9] };
    host.send_list(&mut gate, Kind::Revocations, &encode(&revoked));
    assert_eq!(decide(&mut gate, &mut host.phone(2), MORNING), refused(Reason::AuthenticationFailed));
    host.send_list(&mut gate, Kind::Revocations, &encode(&Revocation { serial: [0, 0, 8], ..revoked }));
    assert_eq!(
        decide(&mut gate, &mut host.phone(2), MORNING + SECOND),
        Decision::Open,
        "another certificate"
    );
}

#[test]
fn an_expired_or_unknown_ca_key_is_refused_though_its_issuer_was_remembered() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING), Decision::Open);
    let expired = host.ca_keys(last_day(2025));
    host.send_list(&mut gate, Kind::CaKeys, &expired);
    assert_eq!(decide(&mut gate, &mut host.phone(2), MORNING), refused(Reason::AuthenticationFailed));
    host.send_list(&mut gate, Kind::CaKeys, &[]);
    assert_eq!(decide(&mut gate, &mut host.phone(2), MORNING), refused(Reason::AuthenticationFailed));
    let good = host.ca_keys(last_day(2026));
    host.send_list(&mut gate, Kind::CaKeys, &good);
    assert_eq!(decide(&mut gate, &mut host.phone(2), MORNING), Decision::Open);
}

#[test]
fn a_gate_without_applications_finds_none_on_any_card() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut none = config();
    none.applications.clear();
    assert!(host.configure(&mut gate, &none));
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING), refused(Reason::NoApplication));
    assert!(host.configure(&mut gate, &config()));
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING + SECOND), Decision::Open);
}

#[test]
fn a_gate_that_does_not_know_the_time_refuses_without_asking_the_card() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let unset = Now { time: UnixMs(0), quality: ClockQuality::Unset };
    let mut phone = host.phone(1);
    let presented = try_tap(&mut gate, &mut phone, unset).unwrap();
    assert_eq!((presented.decision, presented.sequence), (refused(Reason::ClockUnset), None));
    assert_eq!(phone.atc(0).unwrap(), 0, "the card was not used");
    let free = Now { time: UnixMs(MORNING), quality: ClockQuality::Free };
    assert_eq!(try_tap(&mut gate, &mut phone, free).unwrap().decision, Decision::Open);
}

#[test]
fn a_stale_deny_list_opens_or_refuses_as_the_configuration_says() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    let mut gate = working_gate(&mut host, &chip);
    let mut strict = config();
    strict.list_max_age_ms = LIST_AGE_MS;
    let mut lenient = strict.clone();
    lenient.stale_opens = true;

    assert!(host.configure(&mut gate, &strict));
    assert_eq!(decide(&mut gate, &mut host.phone(1), MORNING + LIST_AGE_MS), Decision::Open, "just in time");
    let late = MORNING + LIST_AGE_MS + 1;
    assert_eq!(decide(&mut gate, &mut host.phone(2), late), refused(Reason::ListStale));
    assert!(host.configure(&mut gate, &lenient));
    assert_eq!(decide(&mut gate, &mut host.phone(2), late), Decision::Open);

    // A fresh issue of the same list ends it.
    assert!(host.configure(&mut gate, &strict));
    assert_eq!(decide(&mut gate, &mut host.phone(3), late), refused(Reason::ListStale));
    let version = host.next(Kind::Deny);
    let header = Header { kind: Kind::Deny, version, issued: UnixMs(late) };
    let list = host.list_of(&header, &host.deny(&[]));
    send(&mut host, &mut gate, Kind::Deny, version, &list);
    assert_eq!(decide(&mut gate, &mut host.phone(3), late + LIST_AGE_MS), Decision::Open);
}

#[test]
fn a_strict_gate_without_any_deny_list_is_stale() {
    let mut host = Host::new();
    let chip = Chip::new(8);
    common::commission(&chip, &host.provisioning()).unwrap();
    let mut gate = start(&chip).unwrap();
    let mut strict = config();
    strict.list_max_age_ms = LIST_AGE_MS;
    assert!(host.configure(&mut gate, &strict));
    let keys = host.ca_keys(last_day(2040));
    host.send_list(&mut gate, Kind::CaKeys, &keys);
    assert_eq!(tap(&mut gate, &mut host.phone(1), MORNING).decision, refused(Reason::ListStale));
}
