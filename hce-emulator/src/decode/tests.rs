use super::*;

#[test]
fn commands_are_named() {
    assert_eq!(command(b"\x00\xA4\x04\x00\x0E2PAY.SYS.DDF01\x00"), "SELECT 2PAY.SYS.DDF01");
    assert_eq!(command(&[0x00, 0xB2, 0x01, 0x14, 0x00]), "READ RECORD 1 of file 2");
    assert_eq!(command(&[0x00, 0xB2]), "malformed command of 2 bytes");
}

#[test]
fn of_a_token_the_last_four_digits_are_shown() {
    let record =
        [0x70, 0x0E, 0x5A, 8, 0x62, 0x99, 0, 1, 0x23, 0x45, 0x67, 0x89, 0x57, 2, 0x62, 0x99, 0x90, 0];
    let lines = answer(&record);
    assert_eq!(
        lines,
        ["9000 success", "  70 record", "    5A token: …6789", "    57 track 2 equivalent data: 2 bytes"]
    );
    assert_eq!(answer(&[0x90]), ["no status word, 1 bytes"]);
    let mut follower = Follower::new(Numbers::Shown);
    let shown = follower.exchange(&[0x00, 0xB2, 0x01, 0x0C, 0x00], &record);
    assert!(shown.answered().any(|line| line == "    5A token: 6299000123456789"));
    assert_eq!(shown.to_json(Duration::ZERO)["answer"], crate::hex::encode(&record));
    let masked = Follower::new(Numbers::Masked).exchange(&[0x00, 0xB2, 0x01, 0x0C, 0x00], &record);
    let json = masked.to_json(Duration::from_micros(7));
    assert!(!json.to_string().contains("62990001"), "{json}");
    assert_eq!((&json["us"], &json["meaning"], &json["bytes"]), (&7.into(), &"success".into(), &18.into()));
}

#[test]
fn numbers_that_a_terminal_sends_are_masked_unless_they_are_asked_for() {
    let number = "6299000123456789";
    let data = crate::hex::decode(number).unwrap();
    // 5A and 9F37 in PDOL and CDOL1, 5A in the DDOL.
    let list = [0x5A, 8, 0x9F, 0x37, 4];
    let fci = [&[0x6F, 0x0C, 0x84, 0x00, 0xA5, 0x08, 0x9F, 0x38, 5][..], &list, &[0x90, 0x00]].concat();
    let lists = [&[0x70, 0x0C, 0x8C, 5][..], &list, &[0x9F, 0x49, 2, 0x5A, 8, 0x90, 0x00]].concat();
    let values = [&data[..], &[1, 2, 3, 4]].concat();
    let commands = [
        [&[0x80, 0xA8, 0, 0, 14, 0x83, 12][..], &values, &[0]].concat(),
        [&[0x80, 0xAE, 0x80, 0, 12][..], &values, &[0]].concat(),
        [&[0x00, 0x88, 0, 0, 8][..], &data, &[0]].concat(),
        // What is known of no list, or is no command at all.
        [&[0x00, 0x20, 0, 0x80, 8][..], &data].concat(),
        [&[0x00, 0xA4, 4, 0, 8][..], &data, &[0]].concat(),
        [&[0x00, 0xA4, 4, 0, 16][..], number.as_bytes(), &[0]].concat(),
        data.clone(),
    ];
    for numbers in [Numbers::Masked, Numbers::Shown] {
        let mut follower = Follower::new(numbers);
        follower.exchange(b"\x00\xA4\x04\x00\x05abcde\x00", &fci);
        follower.exchange(&[0x00, 0xB2, 0x01, 0x0C, 0x00], &lists);
        for (i, command) in commands.iter().enumerate() {
            let exchange = follower.exchange(command, &[0x69, 0x85]);
            let json = exchange.to_json(Duration::ZERO);
            let sent: Vec<_> = exchange.sent().collect();
            let all = format!("{} {sent:?} {json}", exchange.name());
            let is_shown = all.contains(number) || all.contains(&crate::hex::encode(number.as_bytes()));
            assert_eq!(is_shown, numbers == Numbers::Shown, "{all}");
            let token = if is_shown { number } else { "…6789" };
            assert_eq!(sent.contains(&format!("  5A token: {token}")), i < 3, "{sent:?}");
        }
    }
}

#[test]
fn a_command_that_tells_no_riders_apart_is_whole_in_a_masked_log_and_any_other_its_header() {
    let mut follower = Follower::new(Numbers::Masked);
    let mut logged = |command: &str, answer: &str| {
        let [command, answer] = [command, answer].map(|text| crate::hex::decode(text).unwrap());
        follower.exchange(&command, &answer).to_json(Duration::ZERO)["command"].clone()
    };
    // A PDOL of date and type: the values are what it says.
    let fci = "6F0B8400A5079F38049A039C019000";
    for (command, answer) in [
        ("00A40400056162636465", fci),
        ("80A800000683042611240000", "6985"),
        ("00B2010C00", "6A83"),
        ("80EA00000401020304", "6D00"),
    ] {
        assert_eq!(logged(command, answer), command);
    }
    // Bytes after the values, values that are no list's, a PDOL that asks for an unknown tag, and what is no command.
    assert_eq!(logged("80A8000008830426112400629900", "6985"), "80A80000");
    assert_eq!(logged("80A8000007830526112400FF00", "6985"), "80A80000");
    logged("00A40400056162636465", "6F0B8400A5079F38049F0103009000");
    assert_eq!(logged("80A8000005830326112400", "6985"), "80A80000");
    assert_eq!(logged("6299000123456789", "6D00"), Value::Null);
}

#[test]
fn what_a_terminal_sends_is_told_apart_by_the_card_s_list() {
    let mut follower = Follower::new(Numbers::Masked);
    let fci = [0x6F, 0x0B, 0x84, 0x00, 0xA5, 0x07, 0x9F, 0x38, 0x04, 0x9A, 0x03, 0x9C, 0x01, 0x90, 0x00];
    follower.exchange(b"\x00\xA4\x04\x00\x05abcde\x00", &fci);
    let gpo = [0x80, 0xA8, 0, 0, 6, 0x83, 4, 0x26, 0x11, 0x24, 0x00, 0];
    let exchange = follower.exchange(&gpo, &[0x69, 0x85]);
    let sent: Vec<_> = exchange.sent().collect();
    assert_eq!(sent, ["  9A transaction date: 261124", "  9C transaction type: 00"]);
    assert_eq!(exchange.status().unwrap(), "6985 conditions not satisfied");
    assert!(!exchange.is_success() && exchange.answered().next().is_none());
    let uid = follower.exchange(&[0xFF, 0xCA, 0, 0, 0], &[8, 1, 2, 3, 0x90, 0x00]);
    assert_eq!(uid.answered().collect::<Vec<_>>(), ["  bytes: 08010203"]);
    // Another application has another list.
    follower.exchange(b"\x00\xA4\x04\x00\x05abcdf\x00", &[0x6A, 0x82]);
    assert_eq!(follower.exchange(&gpo, &[0x90, 0x00]).sent().count(), 0);
}
