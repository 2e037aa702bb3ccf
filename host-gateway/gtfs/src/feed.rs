//! Reads a feed: by `gtfs-structures`, and what of Fares v2 it does not know by itself.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use gtfs_structures::{
    Agency, FareMedia, FareProduct, GtfsReader, RawStopTime, RawTrip, RiderCategory, Stop,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::GtfsError;

/// The largest file of Fares v2 that is read: a million rules.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Debug, Deserialize)]
pub(crate) struct StopArea {
    pub(crate) area_id: String,
    pub(crate) stop_id: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NamedNetwork {
    pub(crate) network_id: String,
    pub(crate) network_name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RouteNetwork {
    pub(crate) network_id: String,
    pub(crate) route_id: String,
}

/// `routes.txt` may name a route's network too.
#[derive(Debug, Deserialize)]
struct RouteRow {
    route_id: String,
    network_id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LegRule {
    pub(crate) leg_group_id: Option<String>,
    pub(crate) network_id: Option<String>,
    pub(crate) from_area_id: Option<String>,
    pub(crate) to_area_id: Option<String>,
    pub(crate) from_timeframe_group_id: Option<String>,
    pub(crate) to_timeframe_group_id: Option<String>,
    pub(crate) fare_product_id: String,
    pub(crate) rule_priority: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TransferRule {
    pub(crate) from_leg_group_id: Option<String>,
    pub(crate) to_leg_group_id: Option<String>,
    pub(crate) transfer_count: Option<i32>,
    pub(crate) duration_limit: Option<u32>,
    pub(crate) duration_limit_type: Option<u8>,
    pub(crate) fare_transfer_type: u8,
    pub(crate) fare_product_id: Option<String>,
}

/// What of a feed bears on fares.
pub(crate) struct Feed {
    pub(crate) agencies: Vec<Agency>,
    pub(crate) stops: Vec<Stop>,
    pub(crate) trips: Vec<RawTrip>,
    pub(crate) stop_times: Vec<RawStopTime>,
    pub(crate) products: Vec<FareProduct>,
    pub(crate) riders: Vec<RiderCategory>,
    pub(crate) media: Vec<FareMedia>,
    pub(crate) stop_areas: Vec<StopArea>,
    pub(crate) networks: Vec<NamedNetwork>,
    pub(crate) route_networks: Vec<RouteNetwork>,
    pub(crate) leg_rules: Vec<LegRule>,
    pub(crate) transfer_rules: Vec<TransferRule>,
    /// Every file's name.
    pub(crate) files: Vec<String>,
}

impl Feed {
    pub(crate) fn read(path: &Path) -> Result<Self, GtfsError> {
        let raw = GtfsReader::default().read_shapes(false).raw().read_from_path(path);
        let raw = raw.map_err(|source| GtfsError::File { file: "feed", source })?;
        let needed = |file| move |source| GtfsError::File { file, source };
        let csv = Files::open(path)?;
        let mut route_networks: Vec<RouteNetwork> = csv.rows("route_networks.txt")?.unwrap_or_default();
        for row in csv.rows::<RouteRow>("routes.txt")?.unwrap_or_default() {
            if let Some(network_id) = row.network_id {
                route_networks.push(RouteNetwork { network_id, route_id: row.route_id });
            }
        }
        Ok(Self {
            agencies: raw.agencies.map_err(needed("agency.txt"))?,
            stops: raw.stops.map_err(needed("stops.txt"))?,
            trips: raw.trips.map_err(needed("trips.txt"))?,
            stop_times: raw.stop_times.map_err(needed("stop_times.txt"))?,
            products: raw.fare_products.transpose().map_err(needed("fare_products.txt"))?.unwrap_or_default(),
            riders: raw
                .rider_categories
                .transpose()
                .map_err(needed("rider_categories.txt"))?
                .unwrap_or_default(),
            media: raw.fare_media.transpose().map_err(needed("fare_media.txt"))?.unwrap_or_default(),
            stop_areas: csv.rows("stop_areas.txt")?.unwrap_or_default(),
            networks: csv.rows("networks.txt")?.unwrap_or_default(),
            route_networks,
            leg_rules: csv.rows("fare_leg_rules.txt")?.ok_or(GtfsError::NoFares)?,
            transfer_rules: csv.rows("fare_transfer_rules.txt")?.unwrap_or_default(),
            files: raw.files,
        })
    }
}

/// The feed's files by name, in a folder or an archive.
enum Files<'a> {
    Folder(&'a Path),
    Archive(&'a Path),
}

impl<'a> Files<'a> {
    fn open(path: &'a Path) -> Result<Self, GtfsError> {
        let kind =
            std::fs::metadata(path).map_err(|e| GtfsError::Archive(format!("{}: {e}", path.display())))?;
        Ok(if kind.is_dir() { Self::Folder(path) } else { Self::Archive(path) })
    }

    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, GtfsError> {
        let fail = |e: &dyn std::fmt::Display| GtfsError::Archive(format!("{name}: {e}"));
        let mut bytes = Vec::new();
        match self {
            Self::Folder(folder) => match File::open(folder.join(name)) {
                Ok(file) => file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| fail(&e))?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(fail(&e)),
            },
            Self::Archive(path) => {
                let file = File::open(path).map_err(|e| fail(&e))?;
                let mut archive = zip::ZipArchive::new(file).map_err(|e| fail(&e))?;
                // A feed may lie in a folder of the archive.
                let found = archive.file_names().find(|there| there.rsplit('/').next() == Some(name));
                let Some(found) = found.map(str::to_owned) else { return Ok(None) };
                let entry = archive.by_name(&found).map_err(|e| fail(&e))?;
                entry.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| fail(&e))?
            }
        };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(fail(&format!("more than {MAX_BYTES} bytes")));
        }
        Ok(Some(bytes))
    }

    fn rows<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<Vec<T>>, GtfsError> {
        let Some(bytes) = self.bytes(name)? else { return Ok(None) };
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .flexible(true)
            .from_reader(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes));
        let rows = reader.deserialize().collect::<Result<_, _>>();
        rows.map(Some).map_err(|source| GtfsError::Csv { file: name, source })
    }
}
