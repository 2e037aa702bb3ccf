//! Every parser of outside bytes as a plain function of bytes: it must end, and never panic.
//!
//! `cargo x test` drives them on stable with seeds and seeded mutation ([`TARGETS`]); `cargo fuzz run NAME`
//! (nightly) runs the same functions under a coverage-guided fuzzer, see `fuzz/`.

mod files;
mod phone;
mod pn532;
mod signature;
mod targets;

/// A parser under test.
pub struct Target {
    /// Its name, as `cargo fuzz run` takes it.
    pub name: &'static str,
    /// The parser.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "tlv", run: targets::tlv, seeds: targets::card_seeds },
    Target { name: "dol", run: targets::dol, seeds: targets::dol_seeds },
    Target { name: "apdu", run: targets::apdu, seeds: targets::apdu_seeds },
    Target { name: "select", run: targets::select, seeds: targets::card_seeds },
    Target { name: "ecc_certificate", run: targets::ecc_certificate, seeds: targets::certificate_seeds },
    Target { name: "rsa_certificate", run: targets::rsa_certificate, seeds: targets::rsa_seeds },
    Target { name: "sm2_certificate", run: targets::sm2_certificate, seeds: targets::sm2_seeds },
    Target { name: "sealed", run: targets::sealed, seeds: targets::sealed_seeds },
    Target { name: "link", run: targets::link, seeds: targets::link_seeds },
    Target { name: "list", run: targets::list, seeds: targets::list_seeds },
    Target { name: "deny", run: targets::deny, seeds: targets::deny_seeds },
    Target { name: "provisioning", run: targets::provisioning, seeds: targets::provisioning_seeds },
    Target { name: "kernel", run: targets::kernel, seeds: targets::kernel_seeds },
    Target { name: "journal", run: targets::journal, seeds: targets::journal_seeds },
    Target { name: "keylog", run: targets::keylog, seeds: targets::keylog_seeds },
    Target { name: "tariff", run: targets::tariff, seeds: targets::tariff_seeds },
    Target { name: "phone_file", run: targets::phone_file, seeds: targets::phone_seeds },
    Target { name: "phone_text", run: phone::text, seeds: phone::text_seeds },
    Target { name: "phone_chip", run: phone::chip, seeds: phone::chip_seeds },
    Target { name: "phone_log", run: phone::log, seeds: phone::log_seeds },
    Target { name: "files_message", run: files::message, seeds: files::message_seeds },
    Target { name: "files_table", run: files::table, seeds: files::table_seeds },
    Target { name: "files_fixed", run: files::fixed, seeds: files::fixed_seeds },
    Target { name: "files_layout", run: files::layout, seeds: files::layout_seeds },
    Target { name: "signature", run: signature::headers, seeds: signature::header_seeds },
    Target { name: "pn532_frame", run: pn532::frame, seeds: pn532::frame_seeds },
    Target { name: "pn532_reader", run: pn532::reader, seeds: pn532::reader_seeds },
];
