//! `init`: every template becomes a project, and every command and snippet in its files does what they say, in small.

use std::fmt::Write as _;

use crate::faults_images::picture;
use crate::harness::{Project, repository, typed};

/// An empty folder.
pub fn empty() -> Project {
    let project = Project::new();
    std::fs::remove_dir(project.path("stages")).expect("removed");
    project
}

/// The commands that a text tells to type: on lines of their own, up to two blanks, or in backticks.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let own = line.trim_start_matches(|c: char| "# .".contains(c) || c.is_ascii_digit());
        if own.starts_with("dynvis ") {
            found.push(own.split("  ").next().unwrap_or(own).trim().to_owned());
        }
        let quoted = line.split('`').skip(1).step_by(2);
        found.extend(quoted.filter(|text| text.starts_with("dynvis ")).map(str::to_owned));
    }
    found
}

/// Makes a project, lets `prepare` fill it, runs its pipeline in small, then types every command of its files.
fn tried(template: &str, small: &[&str], count: usize, prepare: impl Fn(&Project)) -> Project {
    let project = empty();
    let made = typed(&project, &format!("dynvis init {template}")).expect(0).stderr;
    let files: Vec<&str> = made.lines().filter_map(|line| line.strip_prefix("made ")).collect();
    assert!(files.len() >= 3, "{made}");
    prepare(&project);
    let small: String = small.iter().map(|setting| format!(" -S '{setting}'")).collect();
    let run = format!("dynvis run pipelines/{template}.yaml");
    let mut all = vec![run.clone()];
    // What `init` says itself, and what stands in the files.
    all.extend(commands(&made));
    for file in files {
        all.extend(commands(&project.read(file)));
    }
    assert_eq!(all.len(), count, "{all:#?}");
    for mut line in all {
        if line.starts_with("dynvis run ") || line.starts_with("dynvis plan ") {
            line += &small;
        }
        let ran = typed(&project, &line).expect(0);
        assert!(
            !ran.stdout.trim().is_empty() || line.starts_with("dynvis run "),
            "{line} says nothing"
        );
    }
    // What the last command changed is taken back.
    typed(&project, &format!("{run}{small}")).expect(0);
    let plan = format!("dynvis plan pipelines/{template}.yaml --exit-code{small}");
    typed(&project, &plan).expect(0);
    project
}

#[test]
fn quickstart() {
    let small = [
        "digits.limit=120",
        "cnn.epochs=1",
        "cordsnet.epochs=1",
        "cordsnet.matrix.seed=[0]",
    ];
    let project = tried("quickstart", &small, 6, |_| {});
    let shown = typed(&project, "dynvis show @ noise/summary").expect(0).stdout;
    assert!(shown.contains("CordsNet-R2"), "{shown}");
}

/// What makes `init images` small.
pub const SMALL_IMAGES: &[&str] = &[
    "vars.epochs=1",
    "vars.areas=2",
    "images.side=16",
    "images.resize=18",
    "cnn.width=4",
    "cordsnet.width=4",
    "noise.images=4",
    "images.limit_per_class=50",
];

/// Images of two classes, as `data/images/README.md` describes them.
pub fn photographed(project: &Project) {
    for at in 0..104 {
        let class = ["cat", "dog"][at % 2];
        let level = |pixel: usize| (pixel * (at + 1)) as u8;
        picture(project, &format!("data/images/{class}/{at}.png"), level);
    }
}

#[test]
fn images() {
    let project = tried("images", SMALL_IMAGES, 10, photographed);
    let counts = typed(&project, "dynvis show @ images/counts --format json")
        .expect(0)
        .json();
    let images = |split: &str| -> u64 {
        let rows = counts["rows"].as_array().expect("rows");
        let of_split = rows.iter().filter(|row| row["split"] == split);
        of_split.filter_map(|row| row["images"].as_u64()).sum()
    };
    // Of 50 images a class: a fifth for testing, a tenth to be watched.
    assert_eq!((images("train"), images("validation"), images("test")), (70, 10, 20));
    let shown = typed(&project, "dynvis show @ noise/summary").expect(0).stdout;
    assert!(shown.contains("CordsNet-R2"), "{shown}");
}

/// Stimuli and a table of recordings of them, as `data/README.md` describes both.
pub fn recorded(project: &Project) {
    let mut stimuli = "stimulus_id,image\n".to_owned();
    let columns = "stimulus_id,repetition,neuroid_id,region,time_bin_start,time_bin_end,response\n";
    let mut recordings = columns.to_owned();
    for at in 0..40 {
        let class = ["cat", "dog"][at / 20];
        let level = |pixel: usize| (pixel * (at + 1)) as u8;
        picture(project, &format!("data/stimuli/{class}/{at:02}.png"), level);
        writeln!(stimuli, "s{at},{at}").expect("memory");
        for repetition in 0..2 {
            for (neuron, region) in ["V4", "V4", "IT"].iter().enumerate() {
                for start in [50, 100] {
                    let response = (at * 7 + neuron) % 5 + (at * 3 + repetition * 11 + start) % 4;
                    let row = format!(
                        "s{at},{repetition},n{neuron},{region},{start},{},{response}",
                        start + 50
                    );
                    writeln!(recordings, "{row}").expect("memory");
                }
            }
        }
    }
    project
        .write("data/stimuli.csv", &stimuli)
        .write("data/recordings.csv", &recordings);
}

/// What makes `init recordings` small.
pub const SMALL_RECORDINGS: &[&str] = &[
    "recordings.path=data/recordings.csv",
    "stimuli.side=16",
    "cordsnet.areas=2",
    "cordsnet.width=4",
    "cordsnet.epochs=1",
    "predictivity.components=5",
    "predictivity.splits=2",
];

#[test]
fn recordings() {
    let small = SMALL_RECORDINGS;
    let project = tried("recordings", small, 11, recorded);
    let neurons = typed(&project, "dynvis show @ recordings/neurons --format json")
        .expect(0)
        .json();
    assert_eq!(neurons["rows"].as_array().map(Vec::len), Some(6), "3 neurons in 2 bins");
    // The file that a table of the dataset has at an index is the one that was shown.
    let files = typed(&project, "dynvis show @ stimuli/files --format json")
        .expect(0)
        .json();
    assert_eq!(files["rows"][21]["file"], "dog/21.png");

    // What the comments offer: weights from PyTorch in place of training, and parameters of NWB files.
    let text = project.read("pipelines/recordings.yaml");
    let weights = "  cordsnet:\n    import: { path: data/weights.pth }\n";
    let commented: String = weights.lines().map(|line| format!("# {line}\n")).collect();
    assert!(text.contains(&commented), "{text}");
    let start = text.find("  cordsnet:\n    train:").expect("the network");
    let end = text.find("  recordings:\n    recordings:").expect("the recordings");
    project.write(
        "pipelines/imported.yaml",
        &format!("{}{weights}\n{}", &text[..start], &text[end..]),
    );
    typed(&project, "dynvis export cordsnet --out data/weights.pth").expect(0);
    let settings = small.iter().filter(|setting| !setting.starts_with("cordsnet."));
    let settings: String = settings.map(|setting| format!(" -S {setting}")).collect();
    typed(&project, &format!("dynvis run pipelines/imported.yaml{settings}")).expect(0);

    let parameters = [
        "bins: [[50, 100], [100, 150]]",
        "table: trials",
        "stimulus: stimulus_id",
    ];
    let mut nwb = text.clone();
    for parameter in parameters {
        assert!(nwb.contains(&format!("      # {parameter}\n")), "{nwb}");
        nwb = nwb.replace(&format!("# {parameter}"), parameter);
    }
    project.write("pipelines/nwb.yaml", &nwb);
    let file = repository().join("crates/cords/tests/fixtures/units.nwb");
    let run = format!(
        "dynvis run pipelines/nwb.yaml recordings -S 'recordings.path={}'",
        file.display()
    );
    typed(&project, &run).expect(0);
}

/// What makes `init cognitive` small.
pub const SMALL_COGNITIVE: &[&str] = &[
    "digits.limit_per_class=30",
    "cordsnet.epochs=1",
    "tasks.steps=4",
    "tasks.test_trials=20",
    "tasks.decode_trials=40",
    "tasks.matrix.seed=[0]",
];

#[test]
fn cognitive() {
    tried("cognitive", SMALL_COGNITIVE, 10, |_| {});
}

#[test]
fn a_preset_of_the_project_is_one_file() {
    let project = empty();
    typed(&project, "dynvis init").expect(0);
    let text = project.read("stages/README.md");
    let preset = text.lines().find_map(|line| line.strip_prefix("    train: "));
    let preset = format!("train: {}\n", preset.expect("a preset"));
    project.write("stages/train/mine.yaml", &preset).write(
        "p.yaml",
        "stages:\n  d: { dataset: { source: digits } }\n  t: { train: { use: train/mine, data: d, areas: 2 } }\n",
    );
    typed(&project, "dynvis check p.yaml").expect(0);
    assert_eq!(typed(&project, "dynvis presets train/mine").expect(0).stdout, preset);
}

#[test]
fn files_that_are_there_stay_and_folders_may_have_any_name() {
    let project = empty();
    for template in ["quickstart", "images", "recordings", "cognitive"] {
        let init = format!("dynvis init {template} --folder 'it'\\''s mine'");
        let said = typed(&project, &init).expect(0).stderr;
        let lines: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("  cd ")).collect();
        let [enter, plan, _] = lines.as_slice() else {
            panic!("{said}")
        };
        let plan = plan.trim().split("  ").next().unwrap_or_default();
        typed(&project, &format!("{} && {plan}", enter.trim())).expect(0);
        let pipeline = format!("it's mine/pipelines/{template}.yaml");
        project.write(&pipeline, "mine");
        typed(&project, &init).expect(0);
        assert_eq!(project.read(&pipeline), "mine", "{template}");
    }
}
