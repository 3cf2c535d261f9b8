//! Cells of one's own.

use cords::device::{Cpu, Phi, Target};
use cords::dynamics::{SteadyOptions, spontaneous_steady_state};
use cords::learn::{Batch, CordsNetGradient};
use cords::net::{
    Adaptation, AdjointMap, AdjointMaps, Cell, CellKind, CellMaps, CellParameter, CordsNet, Euler, Graph,
    HiddenVariable, Model, ModelInfo, OwnCell, StepMap,
};

use super::{normal, objective, parameters, streams};

/// Adaptation by the square of the activity, tau da/dt = -a + r^2, and u - beta a in place of u; by tau in ms.
pub(super) struct Quadratic(pub(super) f64);

impl Cell for Quadratic {
    fn parameters(&self) -> Vec<CellParameter> {
        vec![CellParameter::new("beta", 0.8)]
    }

    fn step(&self, beta: &[f64], maps: &mut dyn CellMaps<StepMap>) {
        let alpha = maps.dt_ms() / self.0;
        maps.copy(StepMap::Hidden(0), StepMap::NextHidden(0));
        maps.scale(1.0 - alpha, StepMap::NextHidden(0));
        maps.add_product(alpha, StepMap::Activity, StepMap::Activity, StepMap::NextHidden(0));
        maps.add_scaled(-beta[0], StepMap::Hidden(0), StepMap::Current);
    }

    fn adjoint(&self, beta: &[f64], maps: &mut dyn AdjointMaps) {
        let (alpha, g) = (maps.dt_ms() / self.0, AdjointMap::HiddenGradient(0));
        maps.add_dot(-1.0, AdjointMap::CurrentGradient, AdjointMap::Hidden(0), 0);
        maps.add_product(2.0 * alpha, g, AdjointMap::Activity, AdjointMap::Gradient);
        maps.scale(1.0 - alpha, g);
        maps.add_scaled(-beta[0], AdjointMap::CurrentGradient, g);
    }
}

/// `streams` with a cell of one's own in one of its areas.
pub(super) fn with_cell(area: usize, name: &str, cell: impl Cell + 'static) -> Graph {
    let mut description = streams().description().clone();
    description.areas[area].cell = CellKind::Own(OwnCell::new(name, cell));
    Graph::new(description).expect("valid")
}

#[test]
fn a_file_names_a_cell_of_ones_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("own.safetensors");
    let graph = with_cell(3, "quadratic", Quadratic(30.0));
    let CellKind::Own(cell) = graph.area(3).cell.clone() else {
        panic!("it was given");
    };
    let model = Model::CordsNet {
        parameters: parameters(&graph, 1).cast(),
        architecture: graph,
        euler: Euler::published(),
        phi: Phi::Relu,
        info: ModelInfo::default(),
    };
    model.save(&path).expect("saved");
    let refused = Model::load(&path).expect_err("the cell is not known").to_string();
    for part in ["area middle", "`quadratic`", "Model::load_with"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(Model::load_with(&path, &[cell]).expect("loaded"), model);
    // It has no linearisation.
    let net = model.cordsnet().expect("a network");
    let refused = net.check_linear().expect_err("not linear").to_string();
    assert!(refused.contains("area middle has cells `quadratic`"), "{refused}");
}

/// Adaptation as if it were another's.
struct Twin(Adaptation);

impl Cell for Twin {
    fn parameters(&self) -> Vec<CellParameter> {
        self.0.parameters()
    }

    fn linearisation(&self, parameters: &[f64]) -> Option<Vec<HiddenVariable>> {
        self.0.linearisation(parameters)
    }

    fn adjoint(&self, parameters: &[f64], maps: &mut dyn AdjointMaps) {
        self.0.adjoint(parameters, maps);
    }
}

#[test]
fn a_cell_of_ones_own_has_the_bits_of_the_crates() {
    let graph = streams();
    let CellKind::Adapting(adaptation) = graph.area(2).cell else {
        panic!("it adapts");
    };
    let own = with_cell(2, "twin", Twin(adaptation));
    let found = [&graph, &own].map(|graph| {
        let (parameters, euler) = (parameters(graph, 5), Euler::published());
        let net = CordsNet::new(graph, &parameters, &euler, Phi::Relu).expect("a network");
        net.check_linear().expect("linear");
        let steady = spontaneous_steady_state(&net, &SteadyOptions::default(), &mut |_, _| {});
        let objective = objective(4);
        let (images, targets) = (normal(graph.image_len() * 2, 8), Target::of(&[1, 0]));
        let batch = Batch {
            images: &images,
            targets: &targets,
        };
        let gradient = CordsNetGradient::new(&Cpu, graph, &parameters, &euler, Phi::Relu, &objective);
        let gradient = gradient.and_then(|mut gradient| gradient.run(batch, &[]));
        (steady.state, gradient.expect("a batch").gradients)
    });
    assert!(found[0].1.get("log_tau_a.2").is_some());
    assert!(found[0] == found[1]);
}

#[test]
fn cells_of_ones_own_are_checked() {
    struct Named(&'static str, f64);
    impl Cell for Named {
        fn parameters(&self) -> Vec<CellParameter> {
            vec![CellParameter::new(self.0, self.1)]
        }
    }
    let refused = |name: &str, cell: Named| {
        let mut description = streams().description().clone();
        description.areas[3].cell = CellKind::Own(OwnCell::new(name, cell));
        Graph::new(description).expect_err("refused").to_string()
    };
    for (said, part) in [
        (refused("two words", Named("a", 1.0)), "no spaces"),
        (
            refused("cell", Named("log_tau", 1.0)),
            "a parameter cannot be named `log_tau`",
        ),
        (refused("cell", Named("a", f64::NAN)), "parameter `a` starts from NaN"),
    ] {
        assert!(said.contains(part) && said.contains("area middle"), "{said}");
    }
}
