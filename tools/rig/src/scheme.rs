//! Schemes by their provider identifiers, for people whose card this terminal does not accept.

use wavepass_hce::authorities::HOUSE_RID;
use wavepass_hce::hex;
use wavepass_protocol::select::Aid;

/// A scheme.
struct Scheme {
    rid: [u8; 5],
    name: &'static str,
    /// True where its contactless cards sign in GENERATE AC (CDA), which this project's kernel does not verify.
    cda: bool,
}

const fn scheme(rid: [u8; 5], name: &'static str, cda: bool) -> Scheme {
    Scheme { rid, name, cda }
}

/// The identifiers are those of ISO/IEC 7816-5 as public lists have them; who signs how is from memory.
const SCHEMES: [Scheme; 10] = [
    scheme(HOUSE_RID, "Wavepass", false),
    scheme([0xA0, 0x00, 0x00, 0x00, 0x03], "Visa", false),
    scheme([0xA0, 0x00, 0x00, 0x00, 0x04], "Mastercard", true),
    scheme([0xA0, 0x00, 0x00, 0x00, 0x25], "American Express", true),
    scheme([0xA0, 0x00, 0x00, 0x00, 0x65], "JCB", true),
    scheme([0xA0, 0x00, 0x00, 0x01, 0x52], "Discover", false),
    scheme([0xA0, 0x00, 0x00, 0x02, 0x77], "Interac", false),
    scheme([0xA0, 0x00, 0x00, 0x03, 0x33], "UnionPay", false),
    scheme([0xA0, 0x00, 0x00, 0x05, 0x24], "RuPay", false),
    scheme([0xA0, 0x00, 0x00, 0x06, 0x58], "Mir", false),
];

fn find(aid: &Aid) -> Option<&'static Scheme> {
    SCHEMES.iter().find(|scheme| scheme.rid == aid.rid())
}

/// What a card offers of which this terminal accepts nothing, and how to add it to a terminal's file; none where the
/// card offers nothing.
pub(crate) fn offered(aids: &[Aid]) -> Option<String> {
    let first = aids.first()?;
    let mut text = "The card offers only what this terminal does not accept:\n\n".to_owned();
    for aid in aids {
        text += &format!("    {aid}  {}\n", find(aid).map_or("a scheme that is not known here", |s| s.name));
    }
    let how = if first.rid() == HOUSE_RID {
        "suite = \"p256\"\n    ttq = \"21800080\""
    } else {
        "suite = \"rsa\"\n    ttq = \"21800080\"\n    formats = [\"05\", \"95\"]"
    };
    text += &format!(
        "\nTo try one, add it to a terminal file (--config), with the keys of its scheme's authority:\n\n    \
         [[application]]\n    aid = \"{}\"\n    {how}",
        hex::encode(first.as_slice())
    );
    let cda: Vec<&str> = aids.iter().filter_map(find).filter(|s| s.cda).map(|s| s.name).collect();
    if let Some(name) = cda.first() {
        text += &format!(
            "\n\nCards of {name} sign in GENERATE AC (CDA), which this kernel does not verify: such a card is then refused \
             as not proven genuine, but what it answers is shown."
        );
    }
    Some(text)
}
