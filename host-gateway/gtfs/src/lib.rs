//! GTFS with Fares v2, made into a tariff file.
//!
//! `gtfs-structures` reads stops, trips, fare products and riders; the files of Fares v2 that it does not know are read
//! here ([`feed`]). [`tariff`] writes what both kinds of rules can say. What a tariff cannot say is named in
//! [`Imported::notes`], never left out in silence. Facts: the GTFS Schedule reference,
//! <https://gtfs.org/documentation/schedule/reference/>.

mod feed;
mod tariff;

use std::path::Path;

use wavepass_fares::{ServiceDay, Tariff, TariffError};

/// Why a feed cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GtfsError {
    /// A file of the feed that `gtfs-structures` reads.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: &'static str,
        /// Why.
        source: gtfs_structures::Error,
    },
    /// A file of Fares v2.
    #[error("{file}: {source}")]
    Csv {
        /// The file.
        file: &'static str,
        /// Why, with the line.
        source: csv::Error,
    },
    /// The archive or the folder.
    #[error("{0}")]
    Archive(String),
    /// The feed has no rules of Fares v2.
    #[error("the feed has no fare_leg_rules.txt: only Fares v2 can be imported")]
    NoFares,
    /// An amount that is no number of hundredths.
    #[error(
        "fare_products.txt: product `{product}` costs `{amount}`, which is no amount with at most two decimals"
    )]
    Amount {
        /// The product.
        product: String,
        /// What the file says.
        amount: String,
    },
}

/// A tariff file, and what of the feed is not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The file's text.
    pub text: String,
    /// What the tariff cannot say, and what the feed does not say and was assumed.
    pub notes: Vec<String>,
    /// What must be mended by hand before the file is a tariff.
    pub faults: Vec<TariffError>,
}

/// Reads a feed, a folder or a ZIP archive, and writes a tariff that is in force from a day on; `file` is the name that
/// faults are told with.
pub fn import(feed: &Path, file: &str, effective_from: ServiceDay) -> Result<Imported, GtfsError> {
    let feed = feed::Feed::read(feed)?;
    let (text, notes) = tariff::write(&feed, effective_from)?;
    let faults = Tariff::check(file, &text).err().unwrap_or_default();
    Ok(Imported { text, notes, faults })
}
