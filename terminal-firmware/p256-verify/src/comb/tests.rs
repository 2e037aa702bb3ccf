//! Tables hold the sums that their places say, by crate `p256`.

use super::{
    Builder, GENERATOR, GENERATOR_POINTS, GENERATOR_SPACING, GENERATOR_TEETH, KEY_SPACING, KEY_STEP,
    KEY_TEETH, NO_TABLES, add_tooth, double_times,
};
use crate::curve::Affine;
use crate::testing::{affine, same};
use p256::ProjectivePoint;
use p256::elliptic_curve::group::Group;

/// The sum at a place of a comb's table.
fn expected(point: &ProjectivePoint, teeth: u32, spacing: u32, place: usize) -> Affine {
    let mut tooth = *point;
    let mut sum = *point;
    for bit in 0..teeth - 1 {
        (0..spacing).for_each(|_| tooth = tooth.double());
        sum = if place >> bit & 1 == 1 { sum + tooth } else { sum - tooth };
    }
    affine(&sum)
}

#[test]
fn the_generator_s_table_in_flash_is_right() {
    for (place, point) in GENERATOR.iter().enumerate() {
        let sum = expected(&ProjectivePoint::GENERATOR, GENERATOR_TEETH, GENERATOR_SPACING, place);
        assert!(same(point, &sum), "place {place}");
    }
}

/// The file that `generator.bin` must be, made by this crate's own means. `WAVEPASS_WRITE_GENERATOR=1` writes it,
/// for the day on which the comb's shape changes.
#[test]
fn the_generator_s_table_is_the_one_this_crate_makes() {
    let mut table = [Affine::NONE; GENERATOR_POINTS];
    let mut tooth = affine(&ProjectivePoint::GENERATOR);
    for number in 0..GENERATOR_TEETH {
        add_tooth(&mut table, number, &tooth);
        tooth = double_times(&tooth, GENERATOR_SPACING);
    }
    let coordinates = table.iter().flat_map(|point| [point.x, point.y]);
    let bytes: Vec<u8> =
        coordinates.flat_map(|c| c.canonical().0).flat_map(|word| word.to_le_bytes()).collect();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/generator.bin");
    if std::env::var_os("WAVEPASS_WRITE_GENERATOR").is_some() {
        std::fs::write(file, &bytes).unwrap();
    }
    assert!(std::fs::read(file).unwrap() == bytes);
}

#[test]
fn a_key_s_tables_are_right() {
    let mut point = ProjectivePoint::GENERATOR;
    for _ in 0..20 {
        let mut tables = NO_TABLES;
        let mut builder = Builder::new(&affine(&point), &mut tables);
        let mut steps = 1;
        while builder.step(&mut tables) {
            steps += 1;
        }
        assert_eq!(steps, 2 * KEY_TEETH - 1);
        let mut second = point;
        (0..KEY_STEP).for_each(|_| second = second.double());
        for (table, point) in tables.iter().zip([point, second]) {
            for (place, sum) in table.iter().enumerate() {
                assert!(same(sum, &expected(&point, KEY_TEETH, KEY_SPACING, place)), "place {place}");
            }
        }
        point = point.double() + ProjectivePoint::GENERATOR;
    }
}
