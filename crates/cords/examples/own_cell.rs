//! A cell of one's own, which adapts by the square of its activity: tau da/dt = -a + r^2, and u - beta a in place of u.
//! It learns beta and horizontal from vertical gratings: `cargo run --release -p cords --example own_cell`

#![expect(clippy::print_stdout, reason = "an example tells what it finds")]

use cords::data::MemoryImages;
use cords::device::{Cpu, Phi};
use cords::learn::{Data, DirectConfig, Training};
use cords::net::{AdjointMap as Back, AdjointMaps, Cell, CellKind, CellMaps, CellParameter, OwnCell, StepMap as Map};
use cords::net::{CordsNet, Euler, Graph, Input};

struct Quadratic(f64); // tau in ms

impl Cell for Quadratic {
    fn parameters(&self) -> Vec<CellParameter> {
        vec![CellParameter::new("beta", 0.5)]
    }

    fn step(&self, beta: &[f64], maps: &mut dyn CellMaps<Map>) {
        let alpha = maps.dt_ms() / self.0;
        maps.copy(Map::Hidden(0), Map::NextHidden(0));
        maps.scale(1.0 - alpha, Map::NextHidden(0));
        maps.add_product(alpha, Map::Activity, Map::Activity, Map::NextHidden(0));
        maps.add_scaled(-beta[0], Map::Hidden(0), Map::Current);
    }

    fn adjoint(&self, beta: &[f64], maps: &mut dyn AdjointMaps) {
        let alpha = maps.dt_ms() / self.0;
        maps.add_dot(-1.0, Back::CurrentGradient, Back::Hidden(0), 0);
        maps.add_product(2.0 * alpha, Back::HiddenGradient(0), Back::Activity, Back::Gradient);
        maps.scale(1.0 - alpha, Back::HiddenGradient(0));
        maps.add_scaled(-beta[0], Back::CurrentGradient, Back::HiddenGradient(0));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pixel = |i: usize, p: usize| ((if i % 2 == 1 { p / 16 } else { p % 16 } + i) as f32).sin();
    let values: Vec<f32> = (0..64 * 256).map(|p| pixel(p / 256, p % 256)).collect();
    let images = MemoryImages::new([1, 16], 2, values.clone(), (0..64).map(|i| i % 2).collect())?;
    let (train, validation) = (&images, &images);
    let mut description = Graph::published(2, 1, 16, 2)?.description().clone();
    description.areas[1].cell = CellKind::Own(OwnCell::new("quadratic", Quadratic(100.0)));
    let (graph, euler) = (Graph::new(description)?, Euler::new(5.0, 10.0));
    let mut config = DirectConfig::default();
    config.fit.epochs = 8;
    let data = Data { train, validation };
    let trained = Training::new(&graph, &config, &data).euler(&euler).run(&Cpu)?;
    let beta = &trained.parameters.get("beta.1").ok_or("beta is trained")?.data;
    let accuracy = trained.epochs[7].validation_accuracy;
    println!("on what it learned from: accuracy {accuracy:.3}, beta {:.4}", beta[0]);
    let net = CordsNet::new(&graph, &trained.parameters, &euler, Phi::Relu)?;
    let shown = net.embed(&values[..256], 1);
    for ms in [50, 100, 200, 400] {
        let mut state = net.zeros(1);
        net.run(&mut state, Input::Constant(&shown), ms / 5, &mut |_, _| {});
        println!("after {ms} ms: activity {:.4}", state.areas[1].iter().sum::<f32>());
    }
    Ok(())
}
