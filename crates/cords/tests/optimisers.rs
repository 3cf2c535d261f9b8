//! Optimisers, clipping and warm-up against PyTorch's values over ten steps, in float64.
//!
//! The reference takes the same operations in nearly the same order: 1e-12 is a thousand times rounding over ten steps.

mod support;

use cords::device::Cpu;
use cords::learn::{Optimiser, OptimiserKind, Schedule, WarmUp, clip_gradient_norm, learning_rate};
use support::{Fixture, assert_close};

fn check(name: &str, kind: OptimiserKind, rate: f64, warm_up: Option<WarmUp>) {
    let fixture = Fixture::open("optim.safetensors");
    let mut parameters = [fixture.tensor(&format!("{name}.start")).data];
    let mut optimiser = Optimiser::<f64, Cpu>::new(&Cpu, kind, &[parameters[0].len()]);
    for step in 0..10 {
        let mut gradients = [fixture.tensor(&format!("{name}.grad.{step}")).data];
        clip_gradient_norm(&Cpu, Some(fixture.number("clip")), &mut gradients);
        let rate = learning_rate(rate, Schedule::Constant, warm_up, step, 10, 1);
        optimiser.step(rate, &gradients, &mut parameters);
        let expected = fixture.tensor(&format!("{name}.value.{step}")).data;
        assert_close(&format!("{name}, step {step}"), &parameters[0], &expected, 1e-12);
    }
}

#[test]
fn adam() {
    check("adam", OptimiserKind::Adam { weight_decay: 0.0 }, 1e-2, None);
}

#[test]
fn adamw() {
    check("adamw", OptimiserKind::AdamW { weight_decay: 1e-2 }, 1e-2, None);
}

#[test]
fn sgd_with_momentum_and_warm_up() {
    let kind = OptimiserKind::Sgd {
        momentum: 0.9,
        weight_decay: 1e-4,
    };
    let warm_up = WarmUp {
        steps: 5,
        start: 1.0 / 3.0,
    };
    check("sgd", kind, 0.1, Some(warm_up));
}

/// A gradient longer than the limit comes down to it (all parameters together, and short of it by the 1e-6 in the
/// divisor); a shorter one stays; the norm before is returned.
#[test]
fn clipping() {
    let original = Fixture::open("optim.safetensors").tensor("adam.grad.0").data;
    let norm = |parts: &[Vec<f64>]| parts.iter().flatten().map(|v| v * v).sum::<f64>().sqrt();
    let mut parts = [original.iter().map(|v| v * 100.0).collect::<Vec<f64>>(), vec![3.0; 4]];
    let before = norm(&parts);
    assert!(before > 5.0);
    let returned = clip_gradient_norm::<f64, Cpu>(&Cpu, Some(5.0), &mut parts);
    assert!((returned - before).abs() < 1e-12 * before);
    assert!((norm(&parts) - 5.0 * before / (before + 1e-6)).abs() < 1e-12);
    let mut small = [vec![0.3, -0.4]];
    assert_eq!(clip_gradient_norm::<f64, Cpu>(&Cpu, Some(5.0), &mut small), 0.5);
    assert_eq!(small, [vec![0.3, -0.4]]);
}
