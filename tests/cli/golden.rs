//! Numbers of every stage kind as they were when its code version was given: they do not move without it, since a
//! cached result is taken for the one that would be computed.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::harness::{Project, repository};

/// (kind and its code version, table, column) to the summary of the column's numbers.
type Numbers = BTreeMap<(String, String, String), Summary>;

/// The numbers of a column.
#[derive(Clone, Copy, Debug)]
struct Summary {
    /// How many there are.
    count: usize,
    mean: f64,
    /// Standard deviation.
    std: f64,
}

impl Summary {
    fn of(values: &[f64]) -> Self {
        let n = values.len().max(1) as f64;
        let mean = values.iter().fold(0.0, |sum, value| sum + value) / n;
        let squares = values
            .iter()
            .fold(0.0, |sum, value| sum + (value - mean) * (value - mean));
        Self {
            count: values.len(),
            mean,
            std: (squares / n).sqrt(),
        }
    }

    /// Processors sum in different orders; what that makes of numbers here stays far below a thousandth of them.
    fn agrees(&self, other: &Self) -> bool {
        let allowed = 1e-3 * (self.mean.abs() + self.std) + 1e-6;
        self.count == other.count
            && (self.mean - other.mean).abs() <= allowed
            && (self.std - other.std).abs() <= allowed
    }
}

/// The numbers, and what every table says of its columns: names, roles, types, units and descriptions are part of a
/// table's bytes, and so of the keys of the stages that read it.
fn computed() -> (Numbers, String) {
    let project = Project::with_presets();
    project.write("p.yaml", include_str!("../golden/pipeline.yaml"));
    let weights = repository().join("crates/cords/tests/fixtures/published_r2.pth");
    std::fs::copy(weights, project.path("weights.pth")).expect("copied");
    crate::corruptions::write_sets(&project);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let run = &project.dynvis(&["runs", "--json"]).expect(0).json()[0];
    let mut numbers = Numbers::new();
    let mut columns = String::new();
    for stage in run["stages"].as_array().expect("stages") {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let (name, kind) = (text(&stage["name"]), text(&stage["kind"]));
        let kind = format!("{kind}-{}", code_version(&project, stage));
        for output in stage["outputs"].as_array().expect("outputs") {
            // Wall-clock times are apart from all else.
            if output["artifact"] != "table" {
                continue;
            }
            let table = format!("{name}/{}", text(&output["slot"]));
            let described = project.dynvis(&["show", "@", &table, "--describe"]).expect(0).stdout;
            // Without the number of rows, and without blanks that align.
            for line in described.lines().filter(|line| !line.ends_with(" rows")) {
                let words = line.split("  ").map(str::trim).filter(|word| !word.is_empty());
                let words: Vec<&str> = words.collect();
                if let [column, role @ ("key" | "value"), ..] = words[..] {
                    on_its_page(&text(&stage["kind"]), &text(&output["slot"]), column, role);
                }
                writeln!(columns, "{}", words.join(" | ")).expect("text takes everything");
            }
            if output["slot"] == "speed" {
                continue;
            }
            let shown = project
                .dynvis(&["show", "@", &table, "--format", "json"])
                .expect(0)
                .json();
            let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
            for row in shown["rows"].as_array().expect("rows") {
                for (column, value) in row.as_object().expect("a row") {
                    let values = columns.entry(column.clone()).or_default();
                    values.extend(value.as_f64().or(value.as_bool().map(f64::from)));
                }
            }
            for (column, values) in columns {
                numbers.insert((kind.clone(), table.clone(), column), Summary::of(&values));
            }
        }
    }
    (numbers, columns)
}

/// Fails unless a column of a stored table stands on the page of its kind in `docs/kinds`.
#[track_caller]
fn on_its_page(kind: &str, slot: &str, column: &str, role: &str) {
    let page = std::fs::read_to_string(repository().join(format!("docs/kinds/{kind}.md"))).expect("a page");
    // Where a table is published under another name than its slot's.
    let name = match slot {
        "starts" => "initial_conditions",
        "sizes" => "non_normality",
        "network_sizes" => "network_non_normality",
        slot => slot,
    };
    let part = page.split(&format!("\n### {name}\n")).nth(1).unwrap_or_default();
    let part = part.split("\n### ").next().unwrap_or_default();
    let cell = match role {
        "key" => format!("\n| **`{column}`** | "),
        _ => format!("\n| `{column}` | "),
    };
    assert!(
        part.contains(&cell),
        "docs/kinds/{kind}.md does not have `{column}` of `{name}`"
    );
}

/// That in the stage's key: some stages of a kind may have a later one.
fn code_version(project: &Project, stage: &Value) -> u64 {
    let key = stage["key"].as_str().expect("a key");
    let path = project.path(&format!("cache/keys/{}/{key}.json", &key[..2]));
    let text = std::fs::read_to_string(path).expect("what the key is made of");
    let described: Value = serde_json::from_str(&text).expect("JSON");
    described["code_version"].as_u64().expect("a code version")
}

fn write(numbers: &Numbers) -> String {
    let mut text =
        "# kind and code version, table, column, how many numbers, their mean, their standard deviation\n".to_owned();
    for ((kind, table, column), Summary { count, mean, std }) in numbers {
        writeln!(text, "{kind} {table} {column} {count} {mean:.8e} {std:.8e}").expect("text takes everything");
    }
    text
}

fn read(text: &str) -> Numbers {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [kind, table, column, count, mean, std] = words[..] else {
                panic!("six words a line, not `{line}`");
            };
            let summary = Summary {
                count: count.parse().expect("a count"),
                mean: mean.parse().expect("a number"),
                std: std.parse().expect("a number"),
            };
            ((kind.to_owned(), table.to_owned(), column.to_owned()), summary)
        })
        .collect()
}

#[test]
fn numbers_of_a_kind_move_with_its_code_version_only() {
    let file = repository().join("tests/golden/numbers.txt");
    let described = repository().join("tests/golden/columns.txt");
    let (found, columns) = computed();
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&file, write(&found)).expect("written");
        std::fs::write(&described, &columns).expect("written");
    }
    let golden = read(&std::fs::read_to_string(&file).expect("the golden numbers"));
    let names = golden
        .keys()
        .chain(found.keys().filter(|name| !golden.contains_key(*name)));
    let moved: Vec<String> = names
        .filter_map(|name| {
            let (before, after) = (golden.get(name), found.get(name));
            let agree = before.zip(after).is_some_and(|(before, after)| before.agrees(after));
            (!agree).then(|| format!("{} {} {}: {before:?} became {after:?}", name.0, name.1, name.2))
        })
        .collect();
    assert!(
        moved.is_empty(),
        "numbers or code versions moved. Where a kind's numbers are meant to, raise its CODE_VERSION, so that results \
         in caches are computed anew; then write the golden ones again: WRITE_GOLDEN=1 cargo test --release -p dynvis \
         --test cli -- golden\n{}",
        moved.join("\n")
    );
    let before = std::fs::read_to_string(&described).expect("the golden columns");
    let differing = before
        .lines()
        .zip(columns.lines())
        .find(|(before, after)| before != after);
    assert!(
        before == columns,
        "a table's columns moved, and with them its bytes. Where they are meant to, raise the kind's CODE_VERSION and \
         write the golden files again. The first that differs: {differing:?}"
    );
}
