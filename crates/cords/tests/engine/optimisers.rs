//! Optimisers, clipping and warm-up against PyTorch's values over the file's steps, in float64.
//!
//! The reference takes the same operations in nearly the same order: 1e-12 is a thousand times rounding over a few
//! tens of steps.

use crate::support::{Fixture, assert_close};
use cords::device::{Cpu, Device};
use cords::learn::{Optimiser, OptimiserKind, OptimiserSettings, Schedule, WarmUp, clip_gradient_norm, learning_rate};

/// The number behind `key` in the file's description of an optimiser: `lr 1e-2`, `start 1/3`.
fn setting(fixture: &Fixture, name: &str, key: &str) -> f64 {
    let text = fixture.json[name].as_str().unwrap_or_else(|| panic!("no {name}"));
    let (_, rest) = text
        .split_once(&format!("{key} "))
        .unwrap_or_else(|| panic!("no {key} in `{text}`"));
    let number = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("{key} in `{text}`"));
    let value = rest.split([',', ')', ' ']).next().unwrap_or_default();
    value
        .split_once('/')
        .map_or_else(|| number(value), |(a, b)| number(a) / number(b))
}

fn check(name: &str, settings: impl Fn(&Fixture) -> OptimiserSettings, warm_up: impl Fn(&Fixture) -> Option<WarmUp>) {
    let fixture = Fixture::open("optim.safetensors");
    let base = setting(&fixture, name, "lr");
    let mut parameters = [Cpu.upload(&fixture.tensor(&format!("{name}.start")).data)];
    let mut optimiser = Optimiser::<f64, Cpu>::new(&Cpu, settings(&fixture), &[parameters[0].len()]);
    let steps = (0..)
        .take_while(|step| fixture.has(&format!("{name}.grad.{step}")))
        .count();
    assert!(steps > 0, "the file holds no step of {name}");
    for step in 0..steps {
        let mut gradients = [Cpu.upload(&fixture.tensor(&format!("{name}.grad.{step}")).data)];
        clip_gradient_norm(&Cpu, Some(fixture.number("clip")), &mut gradients);
        let rate = learning_rate(base, Schedule::Constant, warm_up(&fixture), step, steps, 1);
        optimiser.step(rate, &gradients, &mut parameters);
        let expected = fixture.tensor(&format!("{name}.value.{step}")).data;
        assert_close(&format!("{name}, step {step}"), &parameters[0], &expected, 1e-12);
    }
}

#[test]
fn fixture_adam() {
    check("adam", |_| OptimiserSettings::new(OptimiserKind::Adam, 0.0), |_| None);
}

#[test]
fn fixture_adamw() {
    let settings =
        |fixture: &Fixture| OptimiserSettings::new(OptimiserKind::AdamW, setting(fixture, "adamw", "weight decay"));
    check("adamw", settings, |_| None);
}

#[test]
fn fixture_sgd_with_momentum_and_warm_up() {
    let settings = |fixture: &Fixture| OptimiserSettings {
        kind: OptimiserKind::Sgd,
        momentum: setting(fixture, "sgd", "momentum"),
        weight_decay: setting(fixture, "sgd", "weight decay"),
    };
    let warm_up = |fixture: &Fixture| {
        Some(WarmUp {
            steps: setting(fixture, "sgd", "total_iters") as usize,
            start: setting(fixture, "sgd", "start"),
        })
    };
    check("sgd", settings, warm_up);
}

/// A gradient longer than the limit comes down to it (all parameters together, and short of it by the 1e-6 in the
/// divisor); a shorter one stays; the norm before is returned.
#[test]
fn fixture_clipping() {
    let original = Fixture::open("optim.safetensors").tensor("adam.grad.0").data;
    type Buffer = <Cpu as Device<f64>>::Buffer;
    let norm = |parts: &[Buffer]| {
        parts
            .iter()
            .flat_map(|part| part.iter())
            .map(|v| v * v)
            .sum::<f64>()
            .sqrt()
    };
    let mut parts = [Cpu.upload(&original), Cpu.upload(&[30.0; 4])];
    let before = norm(&parts);
    let returned = clip_gradient_norm::<f64, Cpu>(&Cpu, Some(5.0), &mut parts);
    assert!((returned - before).abs() < 1e-12 * before);
    assert!((norm(&parts) - 5.0 * before / (before + 1e-6)).abs() < 1e-12);
    let mut small = [Cpu.upload(&[0.3, -0.4])];
    assert_eq!(clip_gradient_norm::<f64, Cpu>(&Cpu, Some(5.0), &mut small), 0.5);
    assert_eq!(small[0].to_vec(), [0.3, -0.4]);
}
