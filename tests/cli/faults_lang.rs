//! Faults of the pipeline language that were found in use, each under its name.

use std::fmt::Write as _;

use crate::harness::{Project, repository};

/// `check` of a text. Whoever never comes to an end is killed.
fn checked(text: &str) -> (i32, String) {
    let project = Project::new();
    project.write("p.yaml", text);
    let ran = project.check_within("", "p.yaml");
    (ran.code, ran.stderr)
}

#[test]
fn errors_far_along_a_line_are_drawn() {
    for filling in ["a", "漢", "é", "\\t", "\\u0000"] {
        let text = format!(
            "{{\"name\":\"w\",\"description\":\"{}\",\"stages\":{{\"a\":{{\"trian\":{{}}}}}}}}",
            filling.repeat(70_000)
        );
        let column = text.split("trian").next().expect("a start").chars().count();
        let (code, screen) = checked(&text);
        assert_eq!(code, 2, "{screen}");
        assert!(!screen.contains("panicked"), "{screen}");
        // The quote belongs to the key.
        assert!(screen.contains(&format!("p.yaml:1:{column}]")), "{screen}");
        assert!(screen.contains("did you mean `train`?"), "{screen}");
        assert!(screen.lines().all(|line| line.chars().count() < 400), "{screen}");
    }
}

#[test]
fn any_text_can_be_drawn() {
    for text in [
        "\u{feff}name: w\r\nstages:\r\n  a:\r\n    trian: {}\r\n",
        "stages:\n  a:\n    trian: \"\u{202e}x\u{200f}\"\n",
        "stages:\n  a: { \"\u{1b}[2J\": {} }\n",
        "stages: {a: {trian: }}",
        "stages:\n  \"\": {}\n",
        "\u{0}",
        "stages:\n  a:\n\ttrian: {}\n",
        "stages:\r  a:\r    trian: {}\r",
    ] {
        let (code, screen) = checked(text);
        assert_eq!(code, 2, "{text:?}: {screen}");
        assert!(!screen.contains("panicked"), "{text:?}: {screen}");
        assert!(!screen.contains(['\u{1b}', '\0', '\u{202e}']), "{text:?}: {screen:?}");
    }
}

#[test]
fn of_twenty_thousand_wrong_references_the_first_have_suggestions() {
    let mut text = "stages:\n".to_owned();
    for n in 0..20_000 {
        writeln!(text, "  s{n}: {{ collect: {{ tables: [sx{n}z] }} }}").expect("memory");
    }
    let (code, screen) = checked(&text);
    assert_eq!(code, 2);
    assert!(
        screen.contains("error: 20000 problems in this pipeline"),
        "{screen:.300}"
    );
    // As many as two million comparisons with 20,000 names allow, though 200 problems are drawn.
    assert_eq!(screen.matches("no stage named `").count(), 200);
    assert_eq!(screen.matches("did you mean `s").count(), 100);
}

#[test]
fn of_a_cycle_of_five_thousand_the_ends_are_shown() {
    let mut text = "stages:\n".to_owned();
    for n in 0..5_000 {
        writeln!(text, "  s{n}: {{ collect: {{ tables: [s{}] }} }}", (n + 1) % 5_000).expect("memory");
    }
    let (code, screen) = checked(&text);
    assert_eq!(code, 2);
    assert!(screen.contains("in a cycle: s0 -> s1 -> s2"), "{screen:.300}");
    assert!(screen.contains("more) -> s4999 -> s0"), "{screen:.300}");
    assert_eq!(screen.matches("part of the cycle").count(), 8, "{screen:.300}");
}

#[test]
fn numbers_without_limits_are_refused_by_check() {
    let stages = |parameters: &str| {
        format!(
            "stages:\n  d: {{ dataset: {{ source: digits }} }}\n  t:\n    train: {{ use: train/digits/cordsnet, data: \
             d, {parameters} }}\n"
        )
    };
    let (code, screen) = checked(&stages("areas: 2"));
    assert_eq!(code, 0, "{screen}");
    for (parameters, says) in [
        ("areas: 2, dt: 1e-300", "at least 0.001 ms"),
        ("areas: 2, dt: 1e-12", "at least 0.001 ms"),
        ("areas: 2, stimulus: 1e300", "at most 10000000 ms"),
        ("areas: 2, stimulus: 1e7", "2000040 steps of 5 ms"),
        ("areas: 2, readout_window: .nan", "non-finite"),
        ("areas: 2, spontaneous: .inf", "non-finite"),
        ("areas: 2, epochs: 1000000000", "at most 10000000"),
        ("areas: 2, epochs: 9999999", "more than 1000000 epochs"),
        ("areas: 2, epochs: 99999999999999999999", "expected an integer"),
        ("areas: 2, checkpoint_minutes: 1e30", "at most 1000000 min"),
        ("areas: 2, weight_decay: 1e300", "out of range"),
        ("areas: 2, batch: 9223372036854775807", "at most 10000000"),
    ] {
        let (code, screen) = checked(&stages(parameters));
        assert_eq!(code, 2, "{parameters}: {screen}");
        assert!(screen.contains(says), "{parameters}: {screen}");
    }
    let (code, screen) = checked(
        "stages:\n  s:\n    synthetic_recordings: { activity: s, regions: [{ name: a, area: 0 }], end: 1e7, width: \
         1e-3 }\n",
    );
    assert_eq!(code, 2, "{screen}");
    assert!(screen.contains("at most 10000 can be simulated"), "{screen}");
}

/// A pipeline whose stage has a matrix over these values and says each in its output.
fn over(values: &str, reference: &str) -> String {
    format!(
        "name: m\nstages:\n  a:\n    command:\n      run: [sh, -c, 'printf %s \"$0\" > o.txt; (echo v; echo 1) > \
         t.csv', \"${{matrix.v}}\"]\n      outputs: {{ t: {{ path: t.csv, type: table }}, o: {{ path: o.txt }} }}\n    \
         matrix: {{ v: {values} }}\n  b:\n    command: {{ run: [sh, -c, 'cat {{inputs.a}}/o.txt > p.txt'], inputs: {{ \
         a: {reference} }}, outputs: {{ p: {{ path: p.txt }} }} }}\n"
    )
}

#[test]
fn matrix_values_of_any_letters_have_names_that_every_command_takes() {
    for (value, name) in [
        ("data/m/s1.csv", "a@v=\"data/m/s1.csv\""),
        ("V4,IT", "a@v=\"V4,IT\""),
        ("a=b", "a@v=\"a=b\""),
        ("x@y", "a@v=\"x@y\""),
        ("x y", "a@v=\"x y\""),
        ("naïve", "a@v=naïve"),
        ("it's", "a@v=\"it's\""),
    ] {
        let typed = format!("a@v={value}");
        for reference in [name, typed.as_str()] {
            let project = Project::new();
            let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
            let values = format!("[{}, other]", quoted(value));
            let output = quoted(&format!("{reference}/o"));
            project.write("p.yaml", &over(&values, &output));
            project.dynvis(&["run", "p.yaml"]).expect(0);
            let folder = project.dynvis(&["show", "@", "b/p"]).expect(0).stdout;
            let text = std::fs::read_to_string(format!("{}/p.txt", folder.trim())).expect("written");
            assert_eq!(text, value, "{reference}");
            for arguments in [["log", "@", reference], ["why", "p.yaml", reference]] {
                let ran = project.dynvis(&arguments).expect(0);
                assert!(!(ran.stdout + &ran.stderr).contains("other"), "{arguments:?}");
            }
            let selected = project.states(&["p.yaml", reference]);
            assert_eq!(selected.get(name).map(String::as_str), Some("cached"), "{selected:?}");
            assert_eq!(
                selected.get("a@v=other").map(String::as_str),
                Some("excluded"),
                "{selected:?}"
            );
            project.dynvis(&["run", "p.yaml", reference]).expect(0);
            project.dynvis(&["show", "@", &format!("{reference}/t")]).expect(0);
        }
    }
}

#[test]
fn numbers_in_names_stay_as_they_are_written() {
    let values = "[01, 12e5, 2023023902_2, 1.10, 12345678901234567890, 0x1F, +49, 1e-7, .5]";
    for written in ["01", "12e5", "2023023902_2", "1.10", "12345678901234567890", "0x1F"] {
        let project = Project::new();
        project.write("p.yaml", &over(values, &format!("'a@v={written}/o'")));
        project.dynvis(&["run", "p.yaml"]).expect(0);
        let folder = project.dynvis(&["show", "@", "b/p"]).expect(0).stdout;
        let text = std::fs::read_to_string(format!("{}/p.txt", folder.trim())).expect("written");
        assert_eq!(text, written);
        assert!(project.states(&["p.yaml"]).contains_key(&format!("a@v={written}")));
    }
}

#[test]
fn members_that_are_equal_are_refused() {
    let (code, screen) = checked("stages:\n  d:\n    dataset: { source: digits }\n    matrix: { side: [16, 16.0] }\n");
    assert_eq!(code, 2);
    assert!(screen.contains("are one and the same"), "{screen}");
    let (code, screen) = checked(&over("[\"1\", 1]", "a@v=1"));
    assert_eq!(code, 2);
    assert!(screen.contains("`a@v=1` is declared twice"), "{screen}");
}

#[test]
fn presets_are_part_of_the_program_and_files_of_the_project_come_first() {
    let project = Project::new();
    let text = "stages:\n  d: { dataset: { use: dataset/digits } }\n  c: { train: { use: train/digits/cnn, data: d, \
        areas: 2 } }\n";
    project.write("p.yaml", text);
    project.dynvis(&["check", "p.yaml"]).expect(0);
    let shipped = std::fs::read_to_string(repository().join("stages/train/cnn.yaml")).expect("a preset");
    assert_eq!(project.dynvis(&["presets", "train/cnn"]).expect(0).stdout, shipped);
    let own = "train: { phase: cnn, optimiser: adam }\n";
    project.write("stages/train/cnn.yaml", own);
    assert_eq!(project.dynvis(&["presets", "train/cnn"]).expect(0).stdout, own);
    let list = project.dynvis(&["presets"]).expect(0).stdout;
    let line = |name: &str| {
        list.lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        line("train/cnn ").contains("stages/train/cnn.yaml, in place of that of dynvis"),
        "{list}"
    );
    assert!(line("train/fold ").contains(" dynvis "), "{list}");
    let ran = project.dynvis(&["presets", "train/cn"]).expect(2);
    assert!(ran.stderr.contains("did you mean `train/cnn`?"), "{}", ran.stderr);
}

#[test]
fn an_error_is_said_once() {
    let project = Project::new();
    let run = "{ run: [sh, -c, 'echo before >&2; exit 3'], outputs: { o: { path: o } } }";
    project.write("p.yaml", &format!("stages:\n  a:\n    command: {run}\n"));
    let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
    assert_eq!(
        ran.stderr.matches("ended with exit status: 3").count(),
        1,
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("  | before"), "{}", ran.stderr);
}

#[test]
fn bash_completes_members_though_it_breaks_words() {
    let project = Project::new();
    project.write("p.yaml", &over("[11, 12, 21]", "a@v=11"));
    let script = project.dynvis(&["completions", "bash"]).expect(0).stdout;
    // As bash 5 hands over a line: words broken, and what its choice will stand in the place of.
    let complete = |line: &str, words: &str, replaced: &str| {
        let count = words.split(' ').count();
        let asked = format!(
            "{script}\nCOMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({words}); COMP_CWORD={}; \
             COMP_TYPE=9\n\
             compopt() {{ :; }}\n_dynvis_complete dynvis '{replaced}' x\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            count - 1
        );
        let output = std::process::Command::new("bash")
            .args(["-c", &asked])
            .current_dir(project.path(""))
            .output()
            .expect("bash");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(|word| word.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        complete("dynvis run p.yaml a@v=1", "dynvis run p.yaml a @ v = 1", "1"),
        ["11", "12"]
    );
    assert_eq!(
        complete("dynvis run p.yaml a@v", "dynvis run p.yaml a @v", "@v"),
        ["@v=11", "@v=12", "@v=21"]
    );
}

#[test]
fn a_headline_that_names_no_table_is_refused() {
    let text = |headline: &str| {
        format!(
            "headline: {headline}\nstages:\n  d:\n    dataset: {{ source: digits }}\n    matrix: {{ seed: [1, 2] }}\n  \
             net:\n    train: {{ use: train/digits/cnn, data: d@seed=1, areas: 2 }}\n  \
             noise:\n    noise: {{ models: [net], data: d@seed=1, levels: [0, 1] }}\n  \
             f:\n    command: {{ run: [x], outputs: {{ o: {{ path: o }} }} }}\n"
        )
    };
    for headline in [
        "noise/summary",
        "noise",
        "net",
        "net/speed",
        "d",
        "d/counts",
        "\"d@*/counts\"",
        "d@seed=2/counts",
        "d@seed=2",
    ] {
        let (code, screen) = checked(&text(headline));
        assert_eq!(code, 0, "{headline}: {screen}");
    }
    for (headline, says, helps) in [
        (
            "noise/sumary",
            "`noise` has no output `sumary`",
            "outputs: accuracy, summary, time",
        ),
        ("noise/pictures", "gives files, but this parameter needs a table", ""),
        (
            "net/windows",
            "`net` has no output `windows`",
            "outputs: model, training, speed",
        ),
        ("net/model", "gives a model, but this parameter needs a table", ""),
        ("f", "gives files, but this parameter needs a table", ""),
        ("niose/summary", "no stage named `niose`", "did you mean `noise`?"),
        (
            "d@seed=3/counts",
            "names no member of the matrix of `d`",
            "members: d@seed=1",
        ),
        ("noise@seed=1/summary", "`noise` has no matrix", "write `noise`"),
        ("noise/", "not a reference", ""),
    ] {
        let (code, screen) = checked(&text(headline));
        assert_eq!(code, 2, "{headline}: {screen}");
        assert!(screen.contains(says) && screen.contains(helps), "{headline}: {screen}");
        assert_eq!(screen.matches("error: 1 problem").count(), 1, "{headline}: {screen}");
        assert!(screen.contains("p.yaml:1:"), "{headline}: {screen}");
    }
}

#[test]
fn stages_of_a_kind_lists_outputs_presets_and_nested_parameters() {
    let project = Project::new();
    project.write(
        "stages/mine.yaml",
        "# What we always take. And more.\nnoise: { levels: [0, 1] }\n",
    );
    let of = |kind: &str| project.dynvis(&["stages", kind]).expect(0).stdout;
    let line = |text: &str, start: &str| {
        let found = text.lines().find(|line| line.split("  ").next() == Some(start));
        let words = found
            .unwrap_or_else(|| panic!("no {start} in {text}"))
            .split_whitespace();
        words.collect::<Vec<_>>().join(" ")
    };
    let noise = of("noise");
    for (start, says) in [
        ("noises[].kind", "name required"),
        ("noises[].length", "pixels 1 "),
        ("summary", "table accuracy by network and noise"),
        ("pictures", "files "),
        (
            "frames",
            "files all frames of some images under every noise and level (with `frames`)",
        ),
        ("noise/cifar_c", "dynvis The noise corruptions of CIFAR-10-C"),
        ("mine", "stages/mine.yaml What we always take"),
        ("seed", "the pipeline's Seed of the noise."),
    ] {
        let all: Vec<&str> = noise
            .lines()
            .filter(|line| line.split("  ").next() == Some(start))
            .collect();
        let found = all.iter().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.join(" ").contains(says)
        });
        assert!(found, "{start}: {says} in\n{noise}");
    }
    assert!(!noise.contains("train/cnn"), "{noise}");
    let train = of("train");
    assert!(line(&train, "dt").contains("2 ms, or as in `start`"), "{train}");
    assert!(line(&train, "tau").contains("10 ms, or as in `start`"), "{train}");
    assert!(line(&train, "areas").contains("8, or as in `start`"), "{train}");
    assert!(line(&train, "initialisation.recurrent").contains(" 0.5 "), "{train}");
    assert!(
        line(&train, "windows").contains("(in phases `direct`, `linear`"),
        "{train}"
    );
    assert!(line(&train, "train/cnn").contains(" dynvis "), "{train}");
    assert!(
        line(&of("cognitive"), "areas[].tau").contains("ms required"),
        "a list of areas"
    );
    let command = of("command");
    assert!(line(&command, "outputs.NAME.path").contains("required"), "{command}");
    assert!(
        command.contains("its outputs are those that the stage's parameter `outputs` names"),
        "{command}"
    );
    for kind in project.dynvis(&["stages"]).expect(0).stdout.lines().skip(1) {
        let kind = kind.split_whitespace().next().expect("a name");
        assert!(!of(kind).contains("not said"), "{kind}: {}", of(kind));
    }
}

#[test]
fn shipped_presets_of_noise_can_be_used() {
    for preset in ["noise/cifar_c", "noise/imagenet_c"] {
        let (code, screen) = checked(&format!(
            "stages:\n  d: {{ dataset: {{ source: digits }} }}\n  net: {{ train: {{ use: train/digits/cnn, data: d, \
             areas: 2 }} }}\n  \
             n: {{ noise: {{ use: {preset}, models: [net], data: d }} }}\n"
        ));
        assert_eq!(code, 0, "{screen}");
    }
}
