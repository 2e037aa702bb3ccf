//! Each entry names the tag of the one before it: who writes to a gate's flash, even with its keys, does not go
//! unnoticed.

use crate::common::{
    Chip, Host, MORNING, Place, SECOND, idle, journal, refused, start, synchronised, tap, try_tap,
    working_gate,
};
use embedded_storage_async::nor_flash::{NorFlash, ReadNorFlash};
use wavepass_gate::Trouble;
use wavepass_journal::sim::block_on;
use wavepass_journal::{Class, Journal, Limits};
use wavepass_protocol::dukpt::{self, Usage};
use wavepass_protocol::seal::{Chain, MAX_SEALED, Sealed, seal};
use wavepass_protocol::tap::{Entry, Outcome, Passage, Reason};
use wavepass_protocol::time::UnixMs;

struct Record {
    class: Class,
    local: Vec<u8>,
    payload: Vec<u8>,
}

/// A gate that has let five riders in, and the records of its journal.
fn five_taps(host: &mut Host) -> (Chip, Vec<Record>) {
    let chip = Chip::new(8);
    let mut gate = working_gate(host, &chip);
    for n in 0..5 {
        tap(&mut gate, &mut host.phone(n), MORNING + u64::from(n) * SECOND);
    }
    drop(gate);
    let mut records = Vec::new();
    block_on(Journal::open(chip.area(Place::Journal), Limits::default(), |entry| {
        records.push(Record {
            class: entry.class,
            local: entry.local.to_vec(),
            payload: entry.payload.to_vec(),
        });
    }))
    .unwrap();
    (chip, records)
}

/// The same chip, its journal written anew with these records: sound in every checksum.
fn rewritten(chip: &Chip, records: &[Record]) -> Chip {
    let chip = chip.copy();
    let mut area = chip.area(Place::Journal);
    let end = area.capacity() as u32;
    block_on(area.erase(0, end)).unwrap();
    let mut journal = block_on(Journal::open(area, Limits::default(), |_| {})).unwrap();
    for (sequence, record) in (1..).zip(records) {
        block_on(journal.prepare()).unwrap();
        block_on(journal.append(sequence, record.class, &record.local, &record.payload)).unwrap();
    }
    chip
}

/// Another entry under the key, the number and the chain of one that was there.
fn replacement(host: &Host, of: &[u8]) -> Vec<u8> {
    let header = Sealed::parse(of).unwrap().header;
    let key = dukpt::working_key(&host.initial_key(), header.ksn, Usage::DataEncrypt).unwrap();
    let entry = Entry::Passage(Passage { time: UnixMs(MORNING), of: 1, outcome: Outcome::NotPassed });
    seal(&key, header, &entry, &mut [0; MAX_SEALED]).unwrap().to_vec()
}

#[test]
fn each_entry_names_the_tag_of_the_one_before_it_through_restarts() {
    let mut host = Host::new();
    let (chip, records) = five_taps(&mut host);
    let mut before = Chain::START;
    for record in &records {
        assert_eq!(Sealed::parse(&record.payload).unwrap().header.chain, before);
        before = Chain::after(&record.payload);
    }
    let mut gate = start(&chip).unwrap();
    assert_eq!(gate.trouble(), None);
    tap(&mut gate, &mut host.phone(9), MORNING + 60 * SECOND);
    let store = journal(&mut host, &mut gate);
    assert_eq!(Sealed::parse(&store.entries[&6]).unwrap().header.chain, before);
}

#[test]
fn a_gate_whose_flash_was_written_to_is_out_of_service_and_still_sends_what_it_has() {
    let mut host = Host::new();
    let (chip, records) = five_taps(&mut host);
    assert_eq!(start(&rewritten(&chip, &records)).unwrap().trouble(), None, "the same again is the same");
    for replaced in 0..4 {
        let (chip, mut records) = five_taps(&mut host);
        records[replaced].payload = replacement(&host, &records[replaced].payload);
        let mut gate = start(&rewritten(&chip, &records)).unwrap();
        assert_eq!(gate.trouble(), Some(Trouble::Tampered(replaced as u32 + 2)));
        assert_eq!(gate.ready(synchronised(MORNING + 60 * SECOND)), Err(Reason::OutOfService));
        let mut phone = host.phone(9);
        let presented = try_tap(&mut gate, &mut phone, synchronised(MORNING + 60 * SECOND)).unwrap();
        assert_eq!((presented.decision, presented.sequence), (refused(Reason::OutOfService), None));
        idle(&mut gate);
        let mut line = host.connect(&mut gate);
        assert_eq!(line.hear(&mut gate).len(), 1 + 5, "the status and every entry");
    }
}

#[test]
fn entries_of_another_gate_or_out_of_place_are_noticed() {
    let mut host = Host::new();
    let (chip, mut records) = five_taps(&mut host);
    records.remove(2);
    assert_eq!(
        start(&rewritten(&chip, &records)).unwrap().trouble(),
        Some(Trouble::Tampered(3)),
        "one was taken out"
    );
    let (chip, mut records) = five_taps(&mut host);
    records.swap(3, 4);
    assert_eq!(start(&rewritten(&chip, &records)).unwrap().trouble(), Some(Trouble::Tampered(4)));
    let (chip, mut records) = five_taps(&mut host);
    records[1].payload[3] ^= 1;
    assert_eq!(
        start(&rewritten(&chip, &records)).unwrap().trouble(),
        Some(Trouble::Tampered(2)),
        "another key id"
    );
    let (chip, mut records) = five_taps(&mut host);
    records[4].payload.clear();
    assert_eq!(
        start(&rewritten(&chip, &records)).unwrap().trouble(),
        Some(Trouble::Tampered(5)),
        "no entry at all"
    );
}
