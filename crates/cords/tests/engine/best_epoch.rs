//! Which epoch's weights a training keeps, and when it ends early.

use cords::device::Cpu;
use cords::learn::{
    BestBy, CnnConfig, Data, DirectConfig, EpochRecord, Fit, Initialisation, Keep, OptimiserKind, OptimiserSettings,
    PhiSchedule, Schedule, TrainError, Training,
};
use cords::net::{Euler, ModelInfo};

use crate::class_noise::{ClassNoise, architecture};

/// Images of a set.
fn noise(count: usize, seed: u64) -> ClassNoise {
    ClassNoise {
        count,
        seed,
        distance: 0.1,
        mixes: false,
    }
}

fn fit(epochs: usize, learning_rate: f64) -> Fit {
    Fit {
        epochs,
        batch: 11,
        optimiser: OptimiserSettings::new(OptimiserKind::AdamW, 0.0),
        learning_rate,
        schedule: Schedule::Constant,
        warm_up: None,
        seed: 4,
        ..Fit::default()
    }
}

/// The bytes of a CNN's model file and its epochs.
fn train(fit: &Fit) -> (Vec<u8>, Vec<EpochRecord>) {
    let (train, validation) = (noise(42, 1), noise(31, 2));
    let data = Data {
        train: &train,
        validation: &validation,
    };
    let (architecture, config) = (architecture(), CnnConfig { fit: fit.clone() });
    let mut trained = Training::new(&architecture, &config, &data).run(&Cpu).expect("trained");
    let epochs = std::mem::take(&mut trained.epochs);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    trained.into_model(ModelInfo::default()).save(&path).expect("saved");
    (std::fs::read(path).expect("read"), epochs)
}

/// What is kept is what a training that ended there would have given, running statistics included.
#[test]
fn the_best_epoch_has_the_bytes_of_a_training_that_ends_with_it() {
    for (learning_rate, best_by) in [(0.003, BestBy::Accuracy), (0.3, BestBy::CrossEntropy)] {
        let best = Fit {
            keep: Keep::Best,
            best_by,
            ..fit(6, learning_rate)
        };
        let (model, epochs) = train(&best);
        assert_eq!(epochs.len(), 6);
        let kept = best.kept(&epochs).expect("an epoch");
        let (shorter, _) = train(&fit(kept + 1, learning_rate));
        assert!(model == shorter, "epoch {kept} by {best_by:?}");
    }
}

/// So large a learning rate that validation goes up and down.
#[test]
fn a_training_that_gets_no_better_ends_with_the_bytes_of_a_shorter_one() {
    let (_, all) = train(&fit(12, 0.3));
    let accuracy = |epoch: usize| all[epoch].validation_accuracy;
    let best_before = |epoch: usize| (0..epoch).map(accuracy).fold(f64::NEG_INFINITY, f64::max);
    let first_worse = (1..all.len()).find(|epoch| accuracy(*epoch) <= best_before(*epoch));
    let ends = first_worse.expect("it does not get better for ever") + 1;
    let stopping = Fit {
        early_stop: Some(1),
        ..fit(12, 0.3)
    };
    let (model, epochs) = train(&stopping);
    assert_eq!(epochs.len(), ends);
    assert!(model == train(&fit(ends, 0.3)).0);
}

#[test]
fn what_cannot_be_chosen_is_refused() {
    let zero = Fit {
        early_stop: Some(0),
        ..fit(2, 0.1)
    };
    let images = noise(12, 1);
    let data = Data {
        train: &images,
        validation: &images,
    };
    let architecture = architecture();
    let config = CnnConfig { fit: zero };
    let refused = Training::new(&architecture, &config, &data).run(&Cpu).map(|_| ());
    assert!(matches!(
        refused,
        Err(TrainError::Setting {
            field: "early_stop",
            ..
        })
    ));
    let config = DirectConfig {
        spontaneous_ms: 20.0,
        stimulus_ms: 30.0,
        after_ms: 15.0,
        readout_window_ms: 10.0,
        return_window_ms: 10.0,
        fit: Fit {
            keep: Keep::Best,
            ..fit(2, 0.1)
        },
        ..DirectConfig::default()
    };
    let start = Initialisation::default().cordsnet(&architecture, 8);
    let training = Training::new(&architecture, &config, &data).euler(&Euler::new(5.0, 10.0));
    let refused = training.run_from(&Cpu, &start, PhiSchedule::Annealed).map(|_| ());
    assert!(matches!(refused, Err(TrainError::Setting { field: "keep", .. })));
}
