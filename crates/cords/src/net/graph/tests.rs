//! Descriptions: published sizes, presets, both forms, and errors that name places.

use super::*;
use crate::net::parameters::READOUT_BIAS;

fn architecture() -> Architecture {
    Architecture {
        in_channels: 3,
        image_side: 32,
        channels: vec![8, 8, 8, 12, 12],
        strides: vec![1, 1, 2, 1],
        classes: 5,
    }
}

const PRESETS: [Preset; 5] = [
    Preset::Published,
    Preset::Feedback,
    Preset::Feedforward,
    Preset::Blt,
    Preset::CornetRt,
];

#[test]
fn published_sizes() {
    let r8 = Graph::published(8, 3, 224, 1000).expect("published sizes are valid");
    assert_eq!(r8.sides(), [56, 56, 28, 28, 14, 14, 7, 7]);
    assert_eq!(r8.units(), 752_640);
    for (areas, units) in [(2, 401_408), (4, 602_112), (6, 702_464)] {
        let net = Graph::published(areas, 3, 224, 10).expect("published sizes are valid");
        assert_eq!(net.units(), units);
    }
    assert_eq!(
        Architecture::published_channels(8, 64),
        [64, 64, 64, 128, 128, 256, 256, 512, 512]
    );
    assert_eq!(Architecture::published_strides(10), [1, 1, 2, 1, 2, 1, 2, 1, 1, 1]);
}

#[test]
fn convolutions_have_their_published_order_and_names() {
    let names: Vec<String> = architecture()
        .graph()
        .expect("valid")
        .convs
        .iter()
        .map(|conv| conv.module.clone())
        .collect();
    let published = "inp_conv inp_skip area_conv.0 area_conv.1 area_conv.2 area_conv.3 area_area.0 area_area.1 \
                     area_area.2 area_area.3 skip_area.0 out_fc";
    assert_eq!(names.join(" "), published);
    let feedback = architecture().preset(Preset::Feedback).expect("valid");
    let names: Vec<&str> = feedback.convs.iter().map(|conv| conv.module.as_str()).collect();
    assert_eq!(names[..12].join(" "), published, "the same streams of initial weights");
    assert_eq!(names[12..], ["feedback.0.0", "feedback.1.0"]);
    let shapes = feedback.cordsnet_shapes();
    let place = |name: &str| shapes.iter().position(|(found, _)| found == name);
    assert!(place(READOUT_BIAS) < place("feedback.0.0.parametrizations.weight.original0"));
}

#[test]
fn every_preset_of_every_depth_is_a_network() {
    for areas in 1..=rule::MOST_AREAS {
        let short = Architecture {
            in_channels: 3,
            image_side: 64,
            channels: Architecture::published_channels(areas, 2),
            strides: Architecture::published_strides(areas),
            classes: 7,
        };
        for preset in PRESETS {
            if preset == Preset::Feedback && areas < 3 {
                let error = short.preset(preset).expect_err("one pair");
                assert!(error.to_string().contains("needs 3 areas or more"), "{error}");
                continue;
            }
            let graph = short
                .preset(preset)
                .unwrap_or_else(|error| panic!("{areas} areas, {preset:?}: {error}"));
            let json = serde_json::to_string(&graph).expect("serialised");
            let back: Graph = serde_json::from_str(&json).expect("read back");
            assert_eq!(back, graph);
            let is_short = graph.architecture().is_some();
            assert_eq!(is_short, json.contains("strides"));
            assert!(is_short || preset != Preset::Published);
            let loops = matches!(preset, Preset::Feedback | Preset::Blt) && areas > 1;
            assert_eq!(graph.components().len(), if loops { 1 } else { areas });
            let twin = !loops && preset != Preset::Feedforward;
            assert_eq!(graph.twin().is_ok(), twin);
        }
        assert_eq!(
            serde_json::to_string(&short.graph().expect("valid")).ok(),
            serde_json::to_string(&short).ok()
        );
    }
    assert!(matches!(
        Graph::published(13, 3, 64, 7),
        Err(NetError::Areas { areas: 13 })
    ));
    let mut short = architecture();
    short.channels.pop();
    assert!(matches!(short.graph(), Err(NetError::Channels { .. })));
}

#[test]
fn more_areas_than_the_rule_goes_up_to_are_written_in_full() {
    let areas = rule::MOST_AREAS + 1;
    let long = Architecture {
        in_channels: 3,
        image_side: 64,
        channels: Architecture::published_channels(areas, 2),
        strides: Architecture::published_strides(areas),
        classes: 7,
    };
    let graph = Graph::new(long.description(Preset::Published)).expect("valid");
    let json = serde_json::to_string(&graph).expect("serialised");
    assert!(!json.contains("strides"));
    assert_eq!(serde_json::from_str::<Graph>(&json).expect("read back"), graph);
    // A published network is written so where that is asked for.
    let published = architecture().graph().expect("valid");
    let json = serde_json::to_string(&published.in_full()).expect("serialised");
    assert!(!json.contains("strides"));
    assert_eq!(serde_json::from_str::<Graph>(&json).expect("read back"), published);
}

/// The network of the documentation: an area that reads the image through a shortcut, and feedback.
const FULL: &str = r#"{ "in_channels": 3, "image_side": 32, "classes": 10, "input_channels": 8,
  "areas": [ {"name": "v1", "channels": 8, "side": 8}, {"name": "v2", "channels": 12, "side": 4, "tau_ms": 20.0} ],
  "projections": [
    {"name": "v1.in",  "to": "v1", "from": ["image"]},
    {"name": "v1.rec", "to": "v1", "from": ["v1"]},
    {"name": "v2.in",  "to": "v2", "from": ["v1", {"from": "image", "shortcut": {"name": "v2.skip"}}], "stride": 2},
    {"name": "v1.back","to": "v1", "from": [{"from": "v2", "upsample": "bilinear"}], "kernel": 1} ],
  "readout": ["v2"] }"#;

#[test]
fn a_network_in_full() {
    // Channels differ: what the feedback brings has those of v2, which its convolution takes to those of v1.
    let graph: Graph = serde_json::from_str(FULL).expect("a network");
    assert_eq!(graph.components(), [[0, 1]]);
    assert_eq!((graph.recurrent(0), graph.recurrent(1)), (Some(2), None));
    let inlets = graph.inlets(1);
    assert_eq!(
        (inlets.len(), &inlets[0].image[..], &inlets[0].areas[..]),
        (1, &[Way::Conv(1)][..], &[(0, Way::Direct)][..])
    );
    let back = &graph.inlets(0)[1];
    assert_eq!((back.reads.channels, back.reads.side), (12, 8));
    let euler = graph.euler(&Euler::published()).expect("usable");
    assert_eq!((euler.alpha(0), euler.alpha(1)), (0.2, 0.1));
    // The network's own time constant is checked where an area has none of its own.
    let slow = Euler::new(20.0, 10.0);
    assert!(graph.euler(&slow).is_err());
    let mut description = graph.description().clone();
    for area in &mut description.areas {
        area.tau_ms = Some(20.0);
    }
    let own = Graph::new(description).expect("valid");
    assert_eq!(own.euler(&slow).expect("usable").tau_ms, [20.0; 2]);
    let again = serde_json::to_string(&graph).expect("serialised");
    assert_eq!(serde_json::from_str::<Graph>(&again).ok(), Some(graph));
}

#[test]
fn what_does_not_fit_is_named() {
    let said = |from: &str, to: &str| {
        assert!(FULL.contains(from), "{from}");
        let error = serde_json::from_str::<Graph>(&FULL.replace(from, to)).expect_err(to);
        error.to_string()
    };
    for (from, to, expected) in [
        (
            r#""side": 4"#,
            r#""side": 5"#,
            "projection `v2.in` gives maps of side 4, but area v2 has side 5",
        ),
        (
            r#""to": "v2""#,
            r#""to": "v3""#,
            "projection `v2.in` names area `v3`; there are v1, v2",
        ),
        (r#"["v2"] }"#, r#"["v9"] }"#, "the readout names area `v9`"),
        (r#""v1.rec""#, r#""v1.in""#, "convolution `v1.in` is there twice"),
        (r#""v1.rec""#, r#""out_fc""#, "cannot be named `out_fc`"),
        (r#""v1.rec""#, r#""beta.0""#, "cannot be named `beta.0`"),
        (r#""v1.rec""#, r#""log_tau_a.0""#, "cannot be named `log_tau_a.0`"),
        (r#"{"name": "v1", "#, r#"{"name": "", "#, "an area cannot be named ``"),
        (
            r#"{"name": "v1", "#,
            r#"{"name": "image", "#,
            "an area cannot be named `image`: projections read the image by this name",
        ),
        (
            r#"["image"]}"#,
            r#"["image", "image"]}"#,
            "projection `v1.in` reads the image's input layer twice",
        ),
        (
            r#"["image"]}"#,
            r#"["v2"], "kernel": 1}"#,
            "projection `v1.in` gives maps of side 4, but area v1 has side 8; `upsample` brings its sources up, or the \
             area should have side 4",
        ),
        (
            r#""name": "v2", "channels""#,
            r#""name": "v1", "channels": 8, "side": 8}, {"name": "v2", "channels""#,
            "area `v1` is there twice",
        ),
        (
            r#""kernel": 1"#,
            r#""kernel": 2"#,
            "`v1.back` has a kernel of side 2: it must be odd",
        ),
        (
            r#"["image"]}"#,
            r#"["image", {"from": "v2", "upsample": "nearest"}]}"#,
            "projection `v1.in` are summed, but area v2 has 12 channels and others have 8",
        ),
        (
            r#"{"from": "v2", "upsample": "bilinear"}"#,
            r#""v2""#,
            "projection `v1.back` gives maps of side 4, but area v1 has side 8",
        ),
        (r#"["v1"]}"#, "[]}", "projection `v1.rec` has no sources"),
        (
            r#""tau_ms": 20.0"#,
            r#""tau_ms": -1.0"#,
            "area v2 has a time constant of -1 ms",
        ),
        (
            r#""in_channels": 3, "#,
            r#""in_channels": 3, "strides": [1], "#,
            "either `channels` and `strides`, or all of",
        ),
        (
            r#""readout": ["v2"]"#,
            r#""readout": ["v2", "v1"]"#,
            "areas are summed, but area v1 has 8 channels",
        ),
        (
            r#""stride": 2},"#,
            r#""stride": 2}, {"name": "v1.again", "to": "v1", "from": ["v1"]},"#,
            "area v1 has two recurrent convolutions, `v1.rec` and `v1.again`",
        ),
        (
            r#"["image"]}"#,
            r#"[{"form": "v1"}]}"#,
            "a source is the name of an area or `image`",
        ),
    ] {
        let said = said(from, to);
        assert!(said.contains(expected), "{said}\ninstead of\n{expected}");
    }
    let loop_of_two = FULL
        .replace(
            r#""tau_ms": 20.0}"#,
            r#""tau_ms": 20.0}, {"name": "v3", "channels": 12, "side": 4}"#,
        )
        .replace(
            r#"["v1", {"from": "image", "shortcut": {"name": "v2.skip"}}], "stride": 2}"#,
            r#"["v3"]}, {"name": "v3.in", "to": "v3", "from": ["v2"]}"#,
        );
    let unreached = serde_json::from_str::<Graph>(&loop_of_two).expect_err("no path");
    let expected = "no path leads from the image to area `v2`, which is read out";
    assert!(unreached.to_string().contains(expected), "{unreached}");
    let twin = serde_json::from_str::<Graph>(FULL)
        .expect("a network")
        .twin()
        .expect_err("feedback")
        .to_string();
    assert_eq!(twin, "this network has no CNN twin: areas v1, v2 drive each other");
}

#[test]
fn projections_that_close_loops_can_be_taken_away_or_it_is_said_why_not() {
    let graph = |json: &str| serde_json::from_str::<Graph>(json).unwrap_or_else(|error| panic!("{error}\n{json}"));
    let cut = |graph: &Graph| -> Vec<String> {
        let convs = graph.loop_convs().expect("the rest is feed-forward");
        convs.into_iter().map(|conv| graph.convs[conv].module.clone()).collect()
    };
    assert_eq!(cut(&graph(FULL)), ["v1.rec", "v1.back"]);
    for preset in PRESETS {
        let graph = architecture().preset(preset).expect("valid");
        let closes = |name: &&String| name.starts_with("area_conv.") || name.starts_with("feedback.");
        let modules: Vec<String> = graph.convs.iter().map(|conv| conv.module.clone()).collect();
        let mut expected: Vec<String> = modules.iter().filter(closes).cloned().collect();
        let mut cut = cut(&graph);
        expected.sort();
        cut.sort();
        assert_eq!(cut, expected, "{preset:?}");
    }
    // Areas out of order are no loop.
    let back = r#",
    {"name": "v1.back","to": "v1", "from": [{"from": "v2", "upsample": "bilinear"}], "kernel": 1} ],"#;
    let swapped = FULL
        .replace(r#"{"name": "v1", "channels": 8, "side": 8}, "#, "")
        .replace(
            r#""tau_ms": 20.0} ],"#,
            r#""tau_ms": 20.0}, {"name": "v1", "channels": 8, "side": 8} ],"#,
        )
        .replace(
            r#"["v1", {"from": "image", "shortcut": {"name": "v2.skip"}}]"#,
            r#"["v1"]"#,
        );
    assert_eq!(cut(&graph(&swapped.replace(back, " ],"))), ["v1.rec"]);
    for (network, reason) in [
        (swapped, "area v2 would have no source"),
        (
            FULL.replace(
                back,
                r#",
    {"name": "v2.mix", "to": "v2", "from": ["v2", {"from": "v1", "shortcut": {"name": "v2.bridge", "stride": 2}}]} ],"#,
            ),
            "projection `v2.mix` to area v2 sums area v2, which closes a loop, with sources that do not",
        ),
    ] {
        let error = graph(&network).check_feedforward_rest().expect_err(reason);
        assert_eq!(
            error.to_string(),
            format!("without its recurrent and feedback projections this network would not be feed-forward: {reason}")
        );
    }
}

#[test]
fn a_wrong_short_form_is_named() {
    let check = |change: &dyn Fn(&mut Architecture)| {
        let mut bad = architecture();
        change(&mut bad);
        match bad.graph() {
            Err(NetError::Graph(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(check(&|a| a.classes = 0), GraphError::Size { .. }));
    assert!(matches!(
        check(&|a| a.channels[2] = 9),
        GraphError::SourceChannels { .. }
    ));
    assert!(matches!(check(&|a| a.strides[1] = 2), GraphError::SourceSide { .. }));
    assert!(matches!(check(&|a| a.strides[3] = 0), GraphError::Size { .. }));
}
