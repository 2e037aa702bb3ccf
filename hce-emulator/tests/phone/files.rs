//! What lies on disk: the phone's file, and a counter that is there before the answer.

use crate::cast::*;
use wavepass_hce::card::CardFault;
use wavepass_hce::faults::Fault;
use wavepass_hce::phone::{FileError, Phone, PhoneError, PhoneFile, state_path};
use wavepass_hce::reader::{ReadError, read};
use wavepass_hce::state::{self, Counters, Durability, SharedCounters, StateError};
use wavepass_protocol::tags;
use wavepass_protocol::token::MAX_DIGITS;

#[test]
fn a_phone_survives_its_file_and_only_its_owner_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anna.json");
    let file = house(1).with(rsa(2)).with_fault(Fault::Slow { delay_us: 5 });
    file.save(&path).unwrap();
    let again = PhoneFile::load(&path).unwrap();
    assert_eq!(again.to_json(), file.to_json());
    assert_eq!(again.faults, file.faults);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_file_that_is_no_phone_is_refused_by_name_and_not_quoted() {
    let good = house(1).to_json().to_string();
    let token = house_token(1).write_digits(&mut [0; MAX_DIGITS]).to_owned();
    assert!(matches!(PhoneFile::from_json("no"), Err(FileError::Json { line: 1, .. })));
    assert!(matches!(PhoneFile::from_json(&good.replace("phone-1", "phone-2")), Err(FileError::Format)));
    for (from, to) in [
        ("\"psn\"", "\"pan\""),
        (token.as_str(), "62990001x"),
        ("2029-02-28", "2029-02-29"),
        ("\"house\"", "\"home\""),
    ] {
        let error = PhoneFile::from_json(&good.replace(from, to)).unwrap_err();
        assert!(matches!(error, FileError::Json { .. }), "{from}: {error}");
        assert!(!error.to_string().contains("6299"));
    }
    let twice = house(1).with(house(2));
    assert!(matches!(PhoneFile::from_json(&twice.to_json()), Err(FileError::Twice(_))));
    let many = (0..17).fold(house(1), |file, _| file.with_fault(Fault::Locked));
    assert!(matches!(PhoneFile::from_json(&many.to_json()), Err(FileError::Faults)));
    let mut none = house(1);
    none.applications.clear();
    assert!(matches!(
        Phone::new(&none, Counters::memory(), [0; 32]),
        Err(PhoneError::File(FileError::Applications(0)))
    ));
    assert!(matches!(
        PhoneFile::load(std::path::Path::new("/nowhere/phone.json")),
        Err(FileError::Io { .. })
    ));
}

#[test]
fn nothing_shows_more_than_the_last_four_digits() {
    let file = house(12_345).with(rsa(6789));
    let shown = format!("{file:?} {:?}", phone(&file));
    assert!(shown.contains("…2345") && shown.contains("…6789") && !shown.contains("6299"), "{shown}");
}

#[test]
fn the_counter_is_on_disk_before_the_answer_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anna.json");
    // The answer is lost between the phone and the reader, and the phone dies.
    house(1).with_fault(Fault::FieldLost { after: 2 }).save(&path).unwrap();
    for tap in 1..=3 {
        let mut phone = Phone::from_files(&path, Durability::Process).unwrap();
        assert!(matches!(read(&mut phone, &gate(1)), Err(ReadError::Card(CardFault::Removed))));
        drop(phone);
        assert_eq!(state::peek(&state_path(&path)).unwrap(), [tap, 0, 0, 0]);
    }
    house(1).save(&path).unwrap();
    let mut phone = Phone::from_files(&path, Durability::PowerCut).unwrap();
    assert_eq!(read(&mut phone, &gate(1)).unwrap().value(tags::ATC).unwrap(), [0, 4]);
    assert!(matches!(
        Phone::from_files(&path, Durability::Process),
        Err(PhoneError::State(StateError::InUse(_)))
    ));
}

#[test]
fn many_phones_share_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("phones.state");
    for day in 1..=2u8 {
        let shared = SharedCounters::open(&path, 4, Durability::Process).unwrap();
        for index in 0..4 {
            let mut phone =
                Phone::new(&house(index + 1), shared.phone(index).unwrap(), [index as u8; 32]).unwrap();
            let reading = read(&mut phone, &gate(day)).unwrap();
            assert_eq!(reading.value(tags::ATC).unwrap(), [0, day]);
        }
    }
}
