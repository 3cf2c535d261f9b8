//! A network that is described in full: two areas of different time constants, feedback from the second to the first,
//! and adaptation. It learns digits with its feedback and without:
//!
//! ```text
//! cargo run --release -p cords --example own_network
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it finds")]

use cords::data::{ImageSource, PrepareConfig, SourceName, Split, SplitImages, prepare_in_memory};
use cords::device::Cpu;
use cords::learn::{Data, DirectConfig, Training};
use cords::net::{Euler, Graph};

/// The input layer makes maps of a quarter of the image's side. A projection is one convolution of the sum of its
/// sources, with a kernel of 3 and stride 1 if it says nothing else; from an area to itself it is recurrent.
const NETWORK: &str = r#"{
    "in_channels": 1, "image_side": 16, "classes": 10, "input_channels": 8, "readout": ["v2"],
    "areas": [
        {"name": "v1", "channels": 8, "side": 4, "cell": {"adapting": {"tau_a_ms": 100, "beta": 0.3, "trained": true}}},
        {"name": "v2", "channels": 16, "side": 2, "tau_ms": 20}
    ],
    "projections": [
        {"name": "v1.in", "to": "v1", "from": ["image"]},
        {"name": "v1.recurrent", "to": "v1", "from": ["v1"]},
        {"name": "v2.in", "to": "v2", "from": ["v1"], "stride": 2},
        {"name": "v2.recurrent", "to": "v2", "from": ["v2"]},
        {"name": "v1.feedback", "to": "v1", "from": [{"from": "v2", "upsample": "bilinear"}]}
    ]
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let digits = PrepareConfig::new(ImageSource::new(SourceName::Digits, ""), 1, 16);
    let (set, _) = prepare_in_memory(&digits, &mut |_, _| {})?;
    let images = |split| SplitImages::new(&set, split, None, 0);
    let data = Data {
        train: &images(Split::Train)?,
        validation: &images(Split::Validation)?,
    };
    let mut config = DirectConfig::default();
    (config.fit.epochs, config.fit.learning_rate) = (3, 1e-2);
    let with_feedback: Graph = serde_json::from_str(NETWORK)?;
    // The same network as a value: its projections can be taken away, or others added.
    let mut description = with_feedback.description().clone();
    description.projections.pop();
    let without = Graph::new(description)?;
    for (name, graph) in [("with feedback", &with_feedback), ("without feedback", &without)] {
        // Areas that drive each other are one component; each comes after those that drive it.
        println!("{name}: {} units, components {:?}", graph.units(), graph.components());
        let training = Training::new(graph, &config, &data).euler(&Euler::new(5.0, 10.0));
        let trained = training.run(&Cpu)?;
        for record in &trained.epochs {
            println!("  epoch {}: accuracy {:.3}", record.epoch, record.validation_accuracy);
        }
        let beta = trained.parameters.get("beta.0").ok_or("adaptation is trained")?;
        println!("  strength of adaptation {:.3}", beta.data[0]);
    }
    Ok(())
}
