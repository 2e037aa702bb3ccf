//! Writes the tariff: networks, areas as zones, legs as fares between zones, transfers as discounts.

use std::collections::{BTreeMap, BTreeSet};

use gtfs_structures::{DefaultFareCategory, FareMediaType, FareProduct, LocationType};
use wavepass_fares::tariff::{MAX_ZONE, STANDARD_CATEGORY};
use wavepass_fares::{ServiceDay, StationId};

use crate::GtfsError;
use crate::feed::{Feed, LegRule, TransferRule};

/// Files that hold fares, of which nothing is taken.
const NOT_TAKEN: [&str; 6] = [
    "fare_attributes.txt",
    "fare_rules.txt",
    "timeframes.txt",
    "fare_leg_join_rules.txt",
    "fare_capping.txt",
    "transfers.txt",
];
/// The zone of all stations of a network whose fares know no areas.
const EVERYWHERE: u32 = MAX_ZONE;

/// An amount for each category; the standard one first where there is one.
type Amounts = BTreeMap<String, i64>;
/// A network, and two zones in order.
type Leg = (Option<String>, u32, u32);

struct Writer<'a> {
    feed: &'a Feed,
    notes: Vec<String>,
    zones: BTreeMap<&'a str, u32>,
    networks: Vec<String>,
    /// The categories' names by their ids; the default one is the standard.
    categories: BTreeMap<&'a str, String>,
    rows: String,
    dearest: i64,
}

/// The file's text and the notes.
pub(crate) fn write(feed: &Feed, effective_from: ServiceDay) -> Result<(String, Vec<String>), GtfsError> {
    let mut writer = Writer {
        feed,
        notes: Vec::new(),
        zones: BTreeMap::new(),
        networks: Vec::new(),
        categories: BTreeMap::new(),
        rows: String::new(),
        dearest: 0,
    };
    writer.names();
    let products = writer.products()?;
    writer.legs(&products);
    writer.transfers(&products);
    writer.stations();
    let zone = feed.agencies.first().map_or("Etc/UTC", |agency| &agency.timezone);
    writer.note("the feed does not say: start of the service day, maximum journey time, passback, leaving where one entered; check them");
    let dearest = writer.dearest;
    writer.note(&format!(
        "the feed does not say what an incomplete journey costs: the dearest fare, {dearest} fen, is taken"
    ));
    writer.note("lines and distances are not taken: Fares v2 prices by areas and networks");
    let mut text = format!(
        "version = \"gtfs-{effective_from}\"\neffective_from = \"{effective_from}\"\ntime_zone = {}\n\
         service_day_start = \"04:00\"\ncurrency = \"CNY\"\nmaximum_fare_fen = {dearest}\nsingle_fare_fen = {dearest}\n\
         maximum_journey_minutes = 240\npassback_seconds = 20\n\n[same_station]\nfree_minutes = 2\ncheapest_minutes = 30\n",
        quoted(zone)
    );
    text.push_str(&writer.rows);
    Ok((text, writer.notes))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Hundredths of a decimal amount.
fn hundredths(product: &FareProduct) -> Result<i64, GtfsError> {
    let wrong = || GtfsError::Amount { product: product.id.clone(), amount: product.amount.clone() };
    let amount = product.amount.trim();
    let (sign, digits) = amount.strip_prefix('-').map_or((1, amount), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let part = part.trim_end_matches('0');
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if part.len() > 2 || whole.is_empty() || !plain(whole) || !plain(part) {
        return Err(wrong());
    }
    let digits = format!("{whole}{part:0<2}");
    digits.parse::<i64>().map(|number| sign * number).map_err(|_| wrong())
}

impl Writer<'_> {
    fn note(&mut self, note: &str) {
        let note = note.to_owned();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn row(&mut self, fields: &[(&str, String)], table: &str) {
        let fields: String = fields.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        self.rows.push_str(&format!("\n[[{table}]]\n{fields}"));
    }

    /// Areas, networks and categories, and the files that are left out.
    fn names(&mut self) {
        let feed = self.feed;
        for file in NOT_TAKEN {
            if feed.files.iter().any(|there| there.rsplit('/').next() == Some(file)) {
                self.note(&format!("{file} is not taken"));
            }
        }
        if feed.agencies.len() > 1 {
            self.note("agencies are not taken as operators: name them in the file if shares are wanted");
        }
        let areas: BTreeSet<&str> = feed.stop_areas.iter().map(|row| row.area_id.as_str()).collect();
        for (number, area) in (1..).zip(areas) {
            match number < EVERYWHERE {
                true => drop(self.zones.insert(area, number)),
                false => {
                    self.note(&format!("area `{area}` is not taken: a tariff has {} zones", EVERYWHERE - 1))
                }
            }
        }
        for (area, zone) in self.zones.clone() {
            self.note(&format!("area `{area}` is zone {zone}"));
        }
        let named = feed.networks.iter().map(|row| row.network_id.clone());
        let networks: BTreeSet<String> =
            named.chain(feed.route_networks.iter().map(|row| row.network_id.clone())).collect();
        for network in &networks {
            let name = feed.networks.iter().find(|row| row.network_id == *network);
            let name = name.and_then(|row| row.network_name.clone()).unwrap_or_else(|| network.clone());
            self.row(&[("code", quoted(network)), ("name", quoted(&name))], "network");
        }
        self.networks = networks.into_iter().collect();
        let fallback = feed.riders.len() == 1;
        for rider in &feed.riders {
            let default = fallback || rider.is_default_fare_category == DefaultFareCategory::Default;
            let name = if default { STANDARD_CATEGORY.to_owned() } else { rider.id.clone() };
            if !default {
                self.row(&[("name", quoted(&name))], "category");
            }
            self.categories.insert(&rider.id, name);
        }
    }

    /// What each product costs riders of each category, paid by contactless card where that has a price of its own.
    fn products(&mut self) -> Result<BTreeMap<String, Amounts>, GtfsError> {
        let feed = self.feed;
        let media: BTreeMap<&str, &FareMediaType> =
            feed.media.iter().map(|row| (row.id.as_str(), &row.media_type)).collect();
        let rank = |product: &FareProduct| match product.fare_media_id.as_deref().map(|id| media.get(id)) {
            Some(Some(FareMediaType::CEmv)) => 0,
            None => 1,
            _ => 2,
        };
        let mut best: BTreeMap<(String, String), (u8, i64)> = BTreeMap::new();
        for product in &feed.products {
            let amount = hundredths(product)?;
            if product.currency != "CNY" {
                self.note(&format!("amounts are hundredths of {}, written as fen", product.currency));
            }
            let category = match product.rider_category_id.as_deref() {
                None => STANDARD_CATEGORY.to_owned(),
                Some(id) => match self.categories.get(id) {
                    Some(name) => name.clone(),
                    None => {
                        self.note(&format!("product `{}`: there is no rider category `{id}`", product.id));
                        continue;
                    }
                },
            };
            let key = (product.id.clone(), category);
            let offer = (rank(product), amount);
            let known = best.entry(key).or_insert(offer);
            if known.1 != amount {
                self.note(&format!(
                    "product `{}` has several prices: that of contactless cards is taken, else that of no medium",
                    product.id
                ));
            }
            *known = (*known).min(offer);
        }
        let mut products: BTreeMap<String, Amounts> = BTreeMap::new();
        for ((product, category), (_, amount)) in best {
            products.entry(product).or_default().insert(category, amount);
        }
        Ok(products)
    }

    fn legs(&mut self, products: &BTreeMap<String, Amounts>) {
        let feed = self.feed;
        // By network and areas, either way round: what a leg costs.
        let mut fares: BTreeMap<Leg, Amounts> = BTreeMap::new();
        let mut ways: BTreeMap<Leg, BTreeSet<(u32, u32)>> = BTreeMap::new();
        for (number, rule) in (1..).zip(&feed.leg_rules) {
            let told = format!("fare_leg_rules.txt, rule {number} (product `{}`)", rule.fare_product_id);
            let Some((from, to)) = self.leg_zones(rule, &told) else { continue };
            let Some(amounts) = products.get(&rule.fare_product_id) else {
                self.note(&format!("{told} is not taken: there is no such product"));
                continue;
            };
            if amounts.values().any(|&amount| amount < 0) {
                self.note(&format!("{told} is not taken: its price is negative"));
                continue;
            }
            let Some(networks) = self.leg_networks(rule, &told) else { continue };
            for network in networks {
                let key = (network, from.min(to), from.max(to));
                ways.entry(key.clone()).or_default().insert((from, to));
                match fares.get(&key) {
                    Some(known) if known != amounts => {
                        self.note(&format!(
                            "{told} is not taken: an earlier rule has another price for the same areas, or for the way back"
                        ));
                    }
                    _ => drop(fares.insert(key, amounts.clone())),
                }
            }
        }
        for ((network, from, to), amounts) in fares {
            if from != to && ways.get(&(network.clone(), from, to)).is_some_and(|ways| ways.len() == 1) {
                self.note(&format!(
                    "the fare between zones {from} and {to} is told one way only, and taken for both"
                ));
            }
            for (category, amount) in amounts {
                self.dearest = self.dearest.max(amount);
                let mut fields =
                    vec![("from", from.to_string()), ("to", to.to_string()), ("fen", amount.to_string())];
                fields.extend(network.as_ref().map(|network| ("network", quoted(network))));
                if category != STANDARD_CATEGORY {
                    fields.push(("category", quoted(&category)));
                }
                self.row(&fields, "zone_fare");
            }
        }
    }

    /// The networks of a rule: one without a network is for those that no other rule names. `None` alone: there are
    /// none.
    fn leg_networks(&mut self, rule: &LegRule, told: &str) -> Option<Vec<Option<String>>> {
        if self.networks.is_empty() && rule.network_id.is_none() {
            return Some(vec![None]);
        }
        let named = |network: &String| {
            self.feed.leg_rules.iter().any(|other| other.network_id.as_ref() == Some(network))
        };
        let networks: Vec<Option<String>> = match &rule.network_id {
            Some(network) => {
                self.networks.iter().filter(|known| *known == network).cloned().map(Some).collect()
            }
            None => self.networks.iter().filter(|network| !named(network)).cloned().map(Some).collect(),
        };
        if networks.is_empty() {
            self.note(&format!("{told} is not taken: there is no network that it is for"));
            return None;
        }
        Some(networks)
    }

    /// The zones of a rule; `None`, and a note, for what a tariff cannot say.
    fn leg_zones(&mut self, rule: &LegRule, told: &str) -> Option<(u32, u32)> {
        if rule.from_timeframe_group_id.is_some() || rule.to_timeframe_group_id.is_some() {
            self.note(&format!(
                "{told} is not taken: it holds at certain times only; write a time band by hand"
            ));
            return None;
        }
        if rule.rule_priority.as_deref().is_some_and(|priority| priority != "0") {
            self.note(&format!("{told}: its priority is not taken"));
        }
        let areas = (rule.from_area_id.as_deref(), rule.to_area_id.as_deref());
        let (from, to) = match areas {
            (None, None) => {
                let network = |other: &&LegRule| other.network_id == rule.network_id;
                let area = |other: &LegRule| other.from_area_id.is_some() || other.to_area_id.is_some();
                if self.feed.leg_rules.iter().filter(network).any(area) {
                    self.note(&format!(
                        "{told} is not taken: other rules of its network name areas, and it none"
                    ));
                    return None;
                }
                return Some((EVERYWHERE, EVERYWHERE));
            }
            (Some(from), Some(to)) => (from, to),
            _ => {
                self.note(&format!("{told} is not taken: it names one area of two"));
                return None;
            }
        };
        let zones = (self.zones.get(from).copied(), self.zones.get(to).copied());
        if let (Some(from), Some(to)) = zones {
            return Some((from, to));
        }
        self.note(&format!("{told} is not taken: an area of it has no stop"));
        None
    }

    fn transfers(&mut self, products: &BTreeMap<String, Amounts>) {
        for (number, rule) in (1..).zip(&self.feed.transfer_rules) {
            let told = format!("fare_transfer_rules.txt, rule {number}");
            if let Err(why) = self.transfer(rule, products, &told) {
                self.note(&format!("{told} is not taken: {why}"));
            }
        }
    }

    fn transfer(
        &mut self,
        rule: &TransferRule,
        products: &BTreeMap<String, Amounts>,
        told: &str,
    ) -> Result<(), String> {
        let amounts = rule.fare_product_id.as_ref().and_then(|id| products.get(id));
        if rule.fare_product_id.is_some() && amounts.is_none() {
            return Err("there is no such product".into());
        }
        let amount = amounts.and_then(|amounts| amounts.get(STANDARD_CATEGORY)).copied().unwrap_or(0);
        if amounts.is_some_and(|amounts| amounts.len() > 1) {
            self.note(&format!("{told}: it is taken for riders of every category alike"));
        }
        // 0: the first leg and the transfer's price; 1: both legs and the transfer's price.
        let off = match rule.fare_transfer_type {
            0 if amount == 0 => ("percent_off", "100".to_owned()),
            1 if amount < 0 => ("take_off_fen", (-amount).to_string()),
            1 if amount == 0 => return Err("it makes nothing cheaper".into()),
            kind => return Err(format!("type {kind} at {amount} is not a discount on the second leg")),
        };
        let (from, to) =
            (self.group(rule.from_leg_group_id.as_deref())?, self.group(rule.to_leg_group_id.as_deref())?);
        let measured = match rule.duration_limit_type {
            Some(0 | 1) => "start",
            Some(2 | 3) | None => "end",
            Some(kind) => return Err(format!("there is no duration_limit_type {kind}")),
        };
        if matches!(rule.duration_limit_type, Some(0 | 3)) {
            self.note(&format!(
                "{told}: its time runs to the next leg's arrival, and is taken to its departure"
            ));
        }
        let minutes = match rule.duration_limit {
            Some(seconds) => (seconds / 60).clamp(1, 1_440),
            None => 1_440,
        };
        if rule.duration_limit.is_none_or(|seconds| seconds % 60 > 0 || !(60..=86_400).contains(&seconds)) {
            self.note(&format!("{told}: its time is taken as {minutes} minutes, within one service day"));
        }
        let times = match rule.transfer_count {
            None => 1,
            Some(-1) => 1_000,
            Some(count @ 1..=1_000) => count,
            Some(count) => return Err(format!("its transfer_count is {count}")),
        };
        let mut fields = Vec::new();
        fields.extend(from.map(|networks| ("from", networks)));
        fields.extend(to.map(|networks| ("to", networks)));
        fields.push(("within_minutes", minutes.to_string()));
        fields.push(("measured_from", quoted(measured)));
        fields.push(("times", times.to_string()));
        fields.push(off);
        self.row(&fields, "transfer_discount");
        Ok(())
    }

    /// A group of legs as a list of networks; `None`: all.
    fn group(&mut self, group: Option<&str>) -> Result<Option<String>, String> {
        let Some(group) = group else { return Ok(None) };
        let of_group = |rule: &&LegRule| rule.leg_group_id.as_deref() == Some(group);
        let networks: BTreeSet<Option<&str>> =
            self.feed.leg_rules.iter().filter(of_group).map(|rule| rule.network_id.as_deref()).collect();
        if networks.is_empty() {
            return Err(format!("no leg is in group `{group}`"));
        }
        let inside = |rule: &LegRule| networks.contains(&rule.network_id.as_deref());
        if self.feed.leg_rules.iter().any(|rule| inside(rule) && !of_group(&rule)) {
            self.note(&format!("leg group `{group}` is a part of its networks, and taken for all of them"));
        }
        let Some(networks) = networks.into_iter().collect::<Option<Vec<&str>>>() else { return Ok(None) };
        let list: Vec<String> = networks.into_iter().map(quoted).collect();
        Ok(Some(format!("[{}]", list.join(", "))))
    }

    /// Stations, and stops that belong to none.
    fn stations(&mut self) {
        let feed = self.feed;
        let mut station_of: BTreeMap<&str, &str> = BTreeMap::new();
        for stop in &feed.stops {
            let station = match (&stop.location_type, stop.parent_station.as_deref()) {
                (LocationType::StopArea, _) | (LocationType::StopPoint, None) => &stop.id,
                (LocationType::StopPoint, Some(parent)) => parent,
                _ => continue,
            };
            station_of.insert(&stop.id, station);
        }
        let network_of: BTreeMap<&str, &str> =
            feed.route_networks.iter().map(|row| (row.route_id.as_str(), row.network_id.as_str())).collect();
        let route_of: BTreeMap<&str, &str> =
            feed.trips.iter().map(|trip| (trip.id.as_str(), trip.route_id.as_str())).collect();
        let mut networks: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for call in &feed.stop_times {
            let network = route_of.get(call.trip_id.as_str()).and_then(|route| network_of.get(route));
            if let (Some(station), Some(network)) = (station_of.get(call.stop_id.as_str()), network) {
                networks.entry(station).or_default().insert(network);
            }
        }
        let mut zones: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for row in &feed.stop_areas {
            if let (Some(station), Some(&zone)) =
                (station_of.get(row.stop_id.as_str()), self.zones.get(row.area_id.as_str()))
            {
                zones.entry(station).or_default().insert(zone);
            }
        }
        let stations: BTreeSet<&str> = station_of.values().copied().collect();
        let mut codes = BTreeSet::new();
        for (number, id) in (1..).zip(stations) {
            let code = match StationId::new(id) {
                Ok(code) => code.as_str().to_owned(),
                Err(_) => {
                    let code = format!("GTFS-{number}");
                    self.note(&format!("stop `{id}` has the code {code}"));
                    code
                }
            };
            if !codes.insert(code.clone()) {
                self.note(&format!("stop `{id}` is not taken: another stop has the code {code}"));
                continue;
            }
            let stop = feed.stops.iter().find(|stop| stop.id == id);
            let name = stop.and_then(|stop| stop.name.as_deref()).unwrap_or(id);
            let served: Vec<&str> = networks.get(id).into_iter().flatten().copied().collect();
            if !self.networks.is_empty() && served.is_empty() {
                self.note(&format!("stop `{id}` is not taken: no trip of a network calls there"));
                continue;
            }
            if let [first, others @ ..] = &served[..]
                && !others.is_empty()
            {
                self.note(&format!(
                    "stop `{id}` is in networks {}: it is taken into `{first}`",
                    served.join(", ")
                ));
            }
            let mut own = zones.get(id).cloned().unwrap_or_default();
            own.insert(EVERYWHERE);
            let own: Vec<String> = own.iter().map(u32::to_string).collect();
            let mut fields = vec![
                ("code", quoted(&code)),
                ("name", quoted(name)),
                ("zones", format!("[{}]", own.join(", "))),
            ];
            fields.extend(served.first().map(|network| ("network", quoted(network))));
            self.row(&fields, "station");
        }
    }
}
