//! Exported schedules, JSON or CSV.

use autolrs_core::schedule::Schedule;

/// Steps of a schedule that are looked at.
const STEPS: usize = 2000;

/// What is read gives an LR at every step, and comes back from both forms to the bit.
///
/// # Panics
/// If that does not hold.
pub fn target(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let schedule = match Schedule::parse(&text) {
        Ok(schedule) => schedule,
        Err(bad) => {
            assert!(!bad.field.is_empty() && !bad.description.is_empty());
            return;
        }
    };
    let steps = schedule.steps();
    for step in [0, steps / 2, steps - 1, steps, u64::MAX] {
        let lr = schedule.lr_at(step);
        assert!(lr.is_finite() && lr >= 0.0, "{lr} at step {step}");
    }
    let again = Schedule::parse(&schedule.to_json()).expect("what was written can be read");
    assert_eq!(again.to_json(), schedule.to_json());
    let bits = |of: &Schedule| of.iter().take(STEPS).map(f64::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(&again), bits(&schedule));
    if steps <= STEPS as u64 {
        let table: String = schedule.csv_lines().map(|line| line + "\n").collect();
        let table = Schedule::parse(&table).expect("the table can be read");
        assert_eq!(bits(&table), bits(&schedule));
    }
}
