//! Tests of the search on costs whose root is known.

use super::*;

/// Searches with a cost that is the same in both directions. → the two limits, and the number of rounds.
fn found(budget: Budget, cost: impl Fn(f64) -> f64) -> ([Limit; 2], usize) {
    let mut rounds = 0;
    let limits = search(budget, |magnitudes| {
        rounds += 1;
        Ok(magnitudes.iter().map(|m| cost(f64::from(m.abs()))).collect())
    });
    (limits.unwrap(), rounds)
}

#[test]
fn a_square_is_solved_in_three_evaluations_at_any_scale() {
    for root in [1e-4, 0.03, 0.7, 1.0, 5.0, 12.0] {
        let budget = Budget::Kl(2.0);
        let (limits, _) = found(budget, |m| 2.0 * (m / root).powi(2));
        for limit in limits {
            let within = limit.found(budget).unwrap();
            assert!(within.size <= root && within.size > 0.974 * root, "{root}: {within:?}");
            let strides = (root.ln().abs() / STRIDE.ln()).floor() as usize;
            assert!(limit.evaluations <= 3 + strides, "{root}: {} evaluations", limit.evaluations);
        }
    }
}

#[test]
fn each_direction_has_its_own_limit_and_both_are_measured_together() {
    let budget = Budget::Kl(1.0);
    let mut sizes = Vec::new();
    let cost = |m: &f32| if *m < 0.0 { f64::from(*m).powi(2) / 9.0 } else { f64::from(*m).powi(2) / 4.0 };
    let [minus, plus] = search(budget, |magnitudes| {
        sizes.push(magnitudes.len());
        Ok(magnitudes.iter().map(cost).collect())
    })
    .unwrap();
    let size = |limit: Limit| limit.found(budget).unwrap().size;
    assert!((2.92..=3.0).contains(&size(minus)) && (1.94..=2.0).contains(&size(plus)), "{minus:?} {plus:?}");
    assert_eq!(sizes, [2, 2]);
}

#[test]
fn costs_that_are_no_square_are_solved_within_twelve_evaluations() {
    type Cost = fn(f64) -> f64;
    let costs: [(&str, Cost); 4] = [
        ("saturates above the budget", |m| 1.3 * (1.0 - (-m * m).exp())),
        ("exponential", |m| (3.0 * m).exp_m1() / 1e3),
        ("falls first", |m| m * m - 0.4 * m),
        ("overflows", |m| if m > 3.0 { f64::NAN } else { m.powi(4) / 50.0 }),
    ];
    for (name, cost) in costs {
        let budget = Budget::Kl(1.0);
        for limit in found(budget, cost).0 {
            let within = limit.found(budget).unwrap();
            assert!((0.95..=1.0).contains(&within.cost), "{name}: {within:?} after {}", limit.evaluations);
            assert_eq!(within.cost, cost(f64::from(within.size as f32)), "{name}");
        }
    }
}

#[test]
fn at_a_jump_the_largest_magnitude_within_the_budget_is_found() {
    let budget = Budget::Kl(1.0);
    for limit in found(budget, |m| if m < 1.7 { 0.1 * m } else { 3.0 * m }).0 {
        let within = limit.found(budget).unwrap();
        assert!((1.68..1.7).contains(&within.size), "{limit:?}");
        assert!(limit.evaluations <= MOST);
    }
}

#[test]
fn a_budget_that_is_never_reached_has_no_limit() {
    let budget = Budget::Margin(3.0);
    for limit in found(budget, |m| m.tanh()).0 {
        assert_eq!((limit.found(budget), limit.evaluations), (None, MOST));
    }
}

#[test]
fn budgets_are_read_as_they_are_shown_and_others_refused() {
    for text in ["kl=1", "ppl=1.1", "margin=2.5"] {
        assert_eq!(text.parse::<Budget>().unwrap().to_string(), text);
    }
    assert_eq!(Budget::Perplexity(1.1).shown(Budget::Perplexity(1.1).target()), 1.1f64.ln().exp());
    for text in ["", "kl", "kl=0", "kl=-1", "kl=nan", "ppl=1", "ppl=0.9", "cost=1", "kl=inf", "KL=1"] {
        let error = text.parse::<Budget>().unwrap_err().to_string();
        assert!(error.contains("expected kl=NATS"), "{error}");
    }
}
