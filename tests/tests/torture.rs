//! The short form of `make torture`.

use autolrs_tests::torture::{Options, Recipe, Row, can_trace, run};

const KILLS: u64 = 40;

#[test]
fn servers_and_trainers_that_are_killed_lose_nothing_and_change_nothing() {
    let trace = can_trace();
    println!(
        "{}",
        if trace { "killed at exact system calls" } else { "no strace: killed where a trainer speaks" }
    );
    let recipes = Recipe::ALL.to_vec();
    let options = Options { kills: KILLS, seed: 7, parallel: 2, trace, recipes, first: 0 };
    let totals = run(&options, &|text| println!("{text}")).unwrap();
    println!("{totals}");
    let Row { kills, lost_reports, changed_decisions, stuck, .. } = totals.all();
    assert!(kills >= KILLS);
    assert_eq!((lost_reports, changed_decisions, stuck), (0, 0, 0));
}

#[test]
fn without_strace_they_are_killed_where_the_trainer_speaks() {
    let recipes = vec![Recipe::Scan, Recipe::Wsd];
    let options = Options { kills: 8, seed: 8, parallel: 2, trace: false, recipes, first: 0 };
    let all = run(&options, &|text| println!("{text}")).unwrap().all();
    assert!(all.kills >= 8);
    assert_eq!((all.lost_reports, all.changed_decisions, all.stuck), (0, 0, 0));
}
