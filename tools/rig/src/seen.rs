//! What a card said, gathered from its answers: for showing certificates, not for deciding.

use crate::tap::Exchanged;
use wavepass_kernel::Phase;
use wavepass_protocol::apdu::{Command, Response, Status};
use wavepass_protocol::select::{Afl, Aid, Candidate, Fci, oda_part, parse_ppse};
use wavepass_protocol::tags;
use wavepass_protocol::tlv::{self, Tag};

/// A card's answers, joined and taken apart.
#[derive(Default)]
pub struct Seen {
    /// The directory's applications, and their labels where they have any.
    pub directory: Vec<(Candidate, Option<String>)>,
    /// The application that answered last.
    pub aid: Option<Aid>,
    /// Its PDOL.
    pub pdol: Vec<u8>,
    /// The values sent for it.
    pub pdol_values: Vec<u8>,
    /// Objects, in the order in which they came.
    objects: Vec<(Tag, Vec<u8>)>,
    /// The records that the file locator marks as signed, joined.
    pub statics: Vec<u8>,
    /// The values sent for the dynamic signature's own list.
    pub ddol_values: Vec<u8>,
}

impl Seen {
    /// Gathers what the exchanges of one tap brought.
    pub fn of(exchanges: &[Exchanged]) -> Self {
        let mut seen = Self::default();
        let mut joined: Vec<u8> = Vec::new();
        let mut first: Option<&Exchanged> = None;
        let mut afl = Afl::EMPTY;
        for exchanged in exchanges {
            let Some(Ok(Response { data, status })) = exchanged.answer.as_deref().map(Response::parse) else {
                break;
            };
            let begun = *first.get_or_insert(exchanged);
            joined.extend_from_slice(data);
            match status {
                Status::MoreData(_) => continue,
                Status::Success => seen.take(begun, &joined, &mut afl),
                _ => {}
            }
            joined.clear();
            first = None;
        }
        seen
    }

    fn take(&mut self, exchanged: &Exchanged, data: &[u8], afl: &mut Afl) {
        match exchanged.phase {
            Phase::Directory => self.directory = directory(data),
            Phase::Application => {
                *self = Self { directory: std::mem::take(&mut self.directory), ..Self::default() };
                let Ok(fci) = Fci::parse(data) else { return };
                self.aid = Aid::new(fci.df_name);
                self.pdol = fci.pdol.unwrap_or_default().to_vec();
            }
            Phase::Options => {
                self.pdol_values = template_values(&exchanged.command);
                self.response(data, &[tags::AIP, tags::AFL]);
                *afl = self.get(tags::AFL).and_then(|value| Afl::parse(value).ok()).unwrap_or_default();
            }
            Phase::Record(_) => {
                let Ok(command) = Command::parse(&exchanged.command) else { return };
                let (sfi, record) = (command.p2 >> 3, command.p1);
                if let Ok(Some(content)) = tlv::find(data, tags::RECORD) {
                    self.objects(content);
                }
                let signed = afl.records().any(|r| (r.sfi, r.record, r.is_oda) == (sfi, record, true));
                if signed && let Ok(part) = oda_part(sfi, data) {
                    self.statics.extend_from_slice(part);
                }
            }
            Phase::Authenticate => {
                self.ddol_values =
                    Command::parse(&exchanged.command).map(|c| c.data.to_vec()).unwrap_or_default();
                self.response(data, &[tags::SDAD]);
            }
            Phase::Cryptogram => {
                self.response(data, &[tags::CID, tags::ATC, tags::CRYPTOGRAM, tags::IAD]);
            }
            _ => {}
        }
    }

    /// Takes a template 77, or a template 80 with these values one after the other.
    fn response(&mut self, data: &[u8], format_1: &[Tag]) {
        if let Ok(Some(content)) = tlv::find(data, tags::RESPONSE_2) {
            self.objects(content);
        } else if let Ok(Some(mut content)) = tlv::find(data, tags::RESPONSE_1) {
            for (i, &tag) in format_1.iter().enumerate() {
                let len = match tag {
                    tags::AIP | tags::ATC => 2,
                    tags::CID => 1,
                    tags::CRYPTOGRAM => 8,
                    _ => content.len(),
                };
                let len = if i + 1 == format_1.len() { content.len() } else { len.min(content.len()) };
                let (value, rest) = content.split_at(len);
                self.objects.push((tag, value.to_vec()));
                content = rest;
            }
        }
    }

    fn objects(&mut self, content: &[u8]) {
        self.objects.extend(tlv::iter(content).map_while(Result::ok).map(|o| (o.tag, o.value.to_vec())));
    }

    /// The first value that the card gave of an object.
    pub fn get(&self, tag: Tag) -> Option<&[u8]> {
        self.objects.iter().find(|(given, _)| *given == tag).map(|(_, value)| value.as_slice())
    }

    /// The card's label of the selected application.
    pub fn label(&self) -> Option<&str> {
        let aid = self.aid?;
        let (_, label) = self.directory.iter().find(|(entry, _)| aid.starts_with(&entry.aid))?;
        label.as_deref()
    }
}

/// The values in a command's template 83.
fn template_values(command: &[u8]) -> Vec<u8> {
    let data = Command::parse(command).map(|c| c.data).unwrap_or_default();
    tlv::get(data, tags::COMMAND_TEMPLATE).map(<[u8]>::to_vec).unwrap_or_default()
}

fn directory(data: &[u8]) -> Vec<(Candidate, Option<String>)> {
    let entries = parse_ppse(data).unwrap_or_default();
    let list = tlv::path(data, &[tags::FCI, tags::FCI_PROPRIETARY, tags::FCI_DISCRETIONARY]).ok().flatten();
    let labels: Vec<(&[u8], &[u8])> = tlv::iter(list.unwrap_or_default())
        .map_while(Result::ok)
        .filter(|entry| entry.tag == tags::DIRECTORY_ENTRY)
        .filter_map(|entry| {
            let name = tlv::find(entry.value, tags::ADF_NAME).ok()??;
            Some((name, tlv::find(entry.value, tags::APPLICATION_LABEL).ok()??))
        })
        .collect();
    let label = |aid: &Aid| {
        let (_, label) = labels.iter().find(|(name, _)| *name == aid.as_slice())?;
        Some(label.escape_ascii().to_string())
    };
    entries.into_iter().map(|entry| (entry, label(&entry.aid))).collect()
}
