//! What is looked at before a command begins: the sections of the configuration that modules read themselves, and whether the data
//! folder is one.

use super::CommandError;
use crate::bank::http::BankSection;
use crate::clearing::corrections::CorrectionsConfig;
use crate::clearing::files::CollectionConfig;
use crate::clearing::rounds::Rounds;
use crate::config::{Config, ConfigError, bounded};
use crate::keys::Role;
use crate::settlement::SettlementConfig;
use crate::store::Store;

/// How old a tap may be that a rider tells of: ten years, after which nobody has taps.
const MAX_AGE_DAYS: i64 = 3_660;

/// Refuses a section that cannot be, whichever command is given: what is wrong comes out before a day is closed with it.
pub(super) fn check_sections(config: &Config) -> Result<(), ConfigError> {
    BankSection::of(config)?;
    Rounds::of(config)?;
    let corrections: CorrectionsConfig = config.section("corrections")?;
    bounded([("corrections.max_age_days", corrections.max_age_days.into(), 0..=MAX_AGE_DAYS, "days")])?;
    let collection: CollectionConfig = config.section("collection")?;
    collection.check().map_err(|why| ConfigError::Section { name: "collection", why })?;
    let settlement: SettlementConfig = config.section("settlement")?;
    settlement.check().map_err(|e| ConfigError::Section { name: "settlement", why: e.to_string() })
}

/// Refuses a data folder that nobody has worked on and that has no keys, before anything is made in it: most likely it is not
/// the one that was meant.
pub(crate) fn not_new_without_keys(config: &Config) -> Result<(), CommandError> {
    let missing = [Role::Clearing, Role::Bank].map(|role| role.path(&config.keys));
    match missing.into_iter().find(|path| !path.exists()) {
        Some(path) if !Store::was_opened(&config.data) => Err(format!(
            "there is no gateway's data in {} and no key file {}: is --data the folder that was meant? A new one begins with `keys init`",
            config.data.display(),
            path.display()
        )
        .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_sections, not_new_without_keys};
    use crate::config::{Config, Overrides};

    /// What is said of a configuration file of this text.
    fn told(text: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&Overrides { config: Some(file), ..Overrides::default() });
        config.and_then(|config| check_sections(&config)).err().map(|e| e.to_string())
    }

    #[test]
    fn every_section_is_looked_at_before_a_command_begins() {
        assert_eq!(told(""), None);
        for (text, named) in [
            ("[settlement]\nfee_basis_points = 20000", "fee_basis_points is 20000"),
            ("[settlement]\nfee = 1", "fee"),
            ("[settlement]\noperators = []", "operators must be"),
            ("[clearing]\nclose = 'sometimes'", "[clearing]"),
            ("[clearing]\nclsoe = 'manual'", "clsoe"),
            ("[bank]\nbatsch = 1", "batsch"),
            ("[bank.class_ii]\nday_fen = -1\nyear_fen = 1", "bank.class_ii = `-1`"),
            ("[bank.class_ii]\nday = 1\nday_fen = 1\nyear_fen = 1", "day"),
            ("[recovery]\ntrys = 1", "trys"),
            ("[retention]\ndays = -1", "[retention]"),
            ("[reconcile]\nslice_minutes = 7", "reconcile.slice_minutes"),
            ("[corrections]\nmax_age = 1", "max_age"),
            ("[collection]\nnmae = 'x'", "nmae"),
            ("[collection]\nname = 'x'\naccount = 'y'", "[collection]: needs either bic or cnaps"),
            ("[collection]\nname = 'x'\nbic = 'DEUTDEFF'", "[collection]: needs name and account"),
            ("[collection]\nname = 'x'\naccount = 'y'\nbic = 'ZZ'", "[collection]: bic "),
            ("[recovery]\nevery_h = 0", "recovery.every_h = `0`"),
            ("[retention]\ndays = 4000000000", "retention.days = `4000000000`"),
            ("[corrections]\nmax_age_days = 65535", "corrections.max_age_days = `65535`"),
            ("[authorisation]\nmode = 'never'", "[authorisation]"),
            ("[tariff]\nfile = 'x'", "tariff"),
        ] {
            let said = told(text).unwrap_or_else(|| panic!("{text} was taken"));
            assert!(said.contains(named), "{text}: {said}");
        }
    }

    #[test]
    fn a_folder_without_keys_and_without_a_store_is_not_begun_by_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("mistyped");
        let told = not_new_without_keys(&Config::of(&data).unwrap()).unwrap_err().to_string();
        assert!(told.contains("mistyped") && told.contains("clearing.key"), "{told}");
        assert!(!data.exists());
        // Where a store was once opened, missing keys are a fault of their own.
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("lock"), "").unwrap();
        assert!(not_new_without_keys(&Config::of(&data).unwrap()).is_ok());
    }
}
