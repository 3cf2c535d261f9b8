//! `dynvis report` and `dynvis export` of whole runs, from outside and in a browser.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value as Json;

use crate::harness::{Project, rows, say};

/// A small network under noise, and a program's table with text that would be markup.
const PIPELINE: &str = "
name: small
headline: noise/summary
report:
  title: Noise & <small> networks
  text: |
    # What it is about

    A *small* network, <script>alert(1)</script> and [a link](javascript:alert(2)).
  stages:
    noise: Above the results of **noise**.
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 12, side: 16 }
  net:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 2, warmup: 0, batch: 16 }
    matrix: { seed: [0, 1] }
  noise:
    noise: { models: [\"net@*\"], data: digits, levels: [0, 0.5, 1] }
  hostile:
    command:
      run: [cp, \"{files.0}\", out.csv]
      files: [hostile.csv]
      outputs: { names: { path: out.csv, type: table } }
";

const HOSTILE: &str = "name,value\n\"</script><img src=x onerror=alert(3)>\",1\n\"b \"\"quoted\"\"\",-0.5\nc,10\n";

/// The project of tests that run at this time.
static SHARED: Mutex<Weak<Project>> = Mutex::new(Weak::new());

/// Two runs of the same project, the second with more epochs; gone with the last test that uses it.
fn runs() -> Arc<Project> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(project) = shared.upgrade() {
        return project;
    }
    let project = Project::with_presets();
    project.write("p.yaml", PIPELINE).write("hostile.csv", HOSTILE);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.dynvis(&["run", "p.yaml", "-S", "net.epochs=3"]).expect(0);
    let project = Arc::new(project);
    *shared = Arc::downgrade(&project);
    project
}

/// The page that a command writes.
fn page(project: &Project, arguments: &[&str], file: &str) -> String {
    let mut all = vec!["report"];
    all.extend(arguments);
    all.extend(["--out", file]);
    let ran = project.dynvis(&all).expect(0);
    assert_eq!(ran.stdout, format!("{file}\n"));
    project.read(file)
}

/// What stands between two texts, the first time.
#[track_caller]
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end}")).0
}

/// The data of a table by its name.
#[track_caller]
fn data(page: &str, name: &str) -> Json {
    let head = between(page, "<details", &format!("data-name=\"{name}\""));
    let id = head
        .rsplit("id=\"table-")
        .next()
        .expect("an id")
        .trim_end()
        .trim_end_matches('"');
    let json = between(
        page,
        &format!("<script type=\"application/json\" id=\"data-{id}\">"),
        "</script>",
    );
    serde_json::from_str(json).expect("JSON")
}

/// A column of a table's data, text in full.
#[track_caller]
fn column(data: &Json, name: &str) -> Vec<Json> {
    let columns = data["columns"].as_array().expect("columns");
    let place = columns.iter().position(|column| column["name"] == name);
    let values = &data["data"][place.unwrap_or_else(|| panic!("no column {name}"))];
    match values["texts"].as_array() {
        None => values.as_array().expect("values").clone(),
        Some(texts) => {
            let places = values["places"].as_array().expect("places").iter();
            places
                .map(|place| place.as_u64().map_or(Json::Null, |place| texts[place as usize].clone()))
                .collect()
        }
    }
}

#[test]
fn a_report_holds_stages_tables_figures_and_where_they_come_from() {
    let project = &*runs();
    let page = page(project, &["@"], "whole.html");
    assert!(page.contains("<title>Noise &amp; &lt;small&gt; networks</title>"));
    assert!(page.contains("<h3>What it is about</h3>"), "Markdown is HTML");
    for family in ["digits", "net", "noise", "hostile"] {
        assert!(page.contains(&format!("<section id=\"stage-{family}\">")), "{family}");
        assert!(page.contains(&format!("href=\"#stage-{family}\"")), "{family}");
    }
    let noise = between(&page, "<section id=\"stage-noise\">", "</section>");
    assert!(noise.contains("Above the results of <strong>noise</strong>."));
    // What ran, and why.
    let outcomes = column(&data(&page, "what ran, and why"), "outcome");
    assert_eq!(outcomes, ["cached", "ran", "ran", "ran", "cached"]);
    let reasons = column(&data(&page, "what ran, and why"), "reason");
    assert_eq!(reasons[1], "epochs: 2 -> 3");
    // A table is the one that `show` prints, to the last digit.
    let shown = rows(project, "noise/summary");
    let summary = data(&page, "noise/summary");
    assert_eq!(summary["height"], shown.len());
    for name in ["accuracy", "level", "network", "view"] {
        let expected: Vec<Json> = shown.iter().map(|row| row[name].clone()).collect();
        assert_eq!(column(&summary, name), expected, "{name}");
    }
    // All members of a matrix are one table.
    assert_eq!(column(&data(&page, "net@*/training"), "seed"), [0, 0, 0, 1, 1, 1]);
    // A figure's points are the table's values, of six digits.
    let figures: Vec<&str> = noise.split("<figure id=").skip(1).collect();
    assert!(figures.len() >= 3, "{} figures", figures.len());
    let accuracy = figures
        .iter()
        .find(|figure| figure.contains("Accuracy over the level of noise"));
    let accuracy = accuracy.expect("the figure of the summary");
    let json = between(accuracy, "\">{\"mark\":\"lines\"", "</script>");
    let numbers: Json = serde_json::from_str(&format!("{{\"mark\":\"lines\"{json}")).expect("JSON");
    let panel = &numbers["panels"][0];
    let curve = &panel["curves"][0];
    assert_eq!(curve["x"], serde_json::json!([0, 0.5, 1]));
    let first: Vec<f64> = shown
        .iter()
        .filter(|row| row["view"] == shown[0]["view"] && row["presentation"] == shown[0]["presentation"])
        .map(|row| row["accuracy"].as_f64().expect("a number"))
        .collect();
    for (drawn, stored) in curve["y"].as_array().expect("values").iter().zip(&first) {
        assert!(
            (drawn.as_f64().expect("a number") - stored).abs() < 1e-6,
            "{drawn} {stored}"
        );
    }
    assert!(accuracy.contains("standard deviation"), "bands are explained");
    // Where it comes from.
    let runs = project.dynvis(&["runs", "--json", "-n", "1"]).expect(0).json();
    let stages = runs[0]["stages"].as_array().expect("stages");
    let hashes = column(&data(&page, "hashes of data and results"), "hash");
    for output in stages
        .iter()
        .flat_map(|stage| stage["outputs"].as_array().expect("outputs"))
    {
        assert!(hashes.contains(&output["content"]), "{output}");
    }
    let provenance = between(&page, "<section id=\"provenance\">", "</section>");
    for fact in [
        runs[0]["host"].as_str(),
        runs[0]["started_at"].as_str(),
        Some("net.epochs=3"),
    ] {
        assert!(provenance.contains(fact.expect("text")), "{fact:?}");
    }
    assert!(between(&page, "<svg class=\"graph\"", "</svg>").contains("net \u{d7}2"));
    assert!(noise.contains("Parameters and inputs") && noise.contains("[0.0,0.5,1.0]"));
}

#[test]
fn a_report_loads_nothing_and_what_files_say_is_no_markup() {
    let page = page(&runs(), &["@"], "safe.html");
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    for wrong in [
        "<link",
        "@import",
        "src=\"http",
        "url(",
        "fetch(",
        "XMLHttpRequest",
        "<iframe",
        "eval(",
    ] {
        assert!(!page.contains(wrong), "{wrong}");
    }
    for wrong in ["<script>alert", "<img src=x", "javascript:alert"] {
        assert!(!page.contains(wrong), "{wrong}");
    }
    assert!(
        page.contains("&lt;/script&gt;&lt;img src=x onerror=alert(3)&gt;"),
        "in the first rows"
    );
    let names = column(&data(&page, "hostile/names"), "name");
    assert_eq!(names, ["</script><img src=x onerror=alert(3)>", "b \"quoted\"", "c"]);
}

#[test]
fn two_runs_stand_side_by_side() {
    let project = &*runs();
    let page = page(project, &["@-1", "@"], "two.html");
    let changes = data(&page, "what they were made from");
    let of = |name: &str| column(&changes, name);
    let place = of("what")
        .iter()
        .position(|what| what == "epochs")
        .expect("a changed parameter");
    assert_eq!([&of("first")[place], &of("second")[place]], ["2", "3"]);
    assert!(of("stage").iter().all(|stage| stage != "digits"), "which is the same");
    let differing = column(&data(&page, "tables that differ"), "table");
    assert!(differing.contains(&"noise/summary".into()), "{differing:?}");
    let training = data(&page, "net@*/training");
    assert_eq!(column(&training, "run").len(), 2 * 2 + 2 * 3);
    let runs = column(&data(&page, "what ran, and why"), "run");
    assert_eq!(runs.len(), 10);
    let ids: Vec<&str> = [&runs[0], &runs[9]].map(|id| id.as_str().expect("text")).to_vec();
    let noise = between(&page, "<section id=\"stage-noise\">", "</section>");
    for id in ids {
        assert!(
            between(noise, "<ul class=\"legend\">", "</ul>").contains(id),
            "a curve of {id}"
        );
    }
    assert!(between(&page, "<section id=\"stage-hostile\">", "</section>").contains("The same in both runs"));
}

#[test]
fn what_there_is_no_room_for_is_named_with_the_command_that_prints_it() {
    let project = Project::new();
    let lines: String = (0..60_000)
        .map(|n| format!("row{n},{}\n", f64::from(n) / 7.0))
        .collect();
    project.write("long.csv", &format!("name,value\n{lines}"));
    project.write(
        "p.yaml",
        "name: p\nstages:\n  long:\n    command:\n      run: [cp, \"{files.0}\", out.csv]\n      files: [long.csv]\n      \
         outputs: { rows: { path: out.csv, type: table } }\n  short:\n    command:\n      run: [sh, -c, \"(echo n; echo 1) \
         > t.csv\"]\n      outputs: { t: { path: t.csv, type: table } }\n",
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let page = page(&project, &["--max-size", "1"], "cut.html");
    assert!(page.len() < 1_000_000, "{}", page.len());
    let told = between(&page, "<p class=\"left-out\">", "</p>");
    assert!(told.contains("of 60,000 rows are in this file"), "{told}");
    let command = told.split("dynvis ").nth(1).expect("a command");
    let arguments: Vec<&str> = command.split_whitespace().collect();
    let printed = project.dynvis(&arguments).expect(0).stdout;
    assert_eq!(printed.lines().count(), 60_001);
    let kept = column(&data(&page, "long/rows"), "value").len();
    assert!((1_000..60_000).contains(&kept), "{kept}");
    assert_eq!(column(&data(&page, "short/t"), "n"), [1], "a short table is whole");
}

#[test]
fn mistakes_in_the_section_are_found_with_all_others() {
    let project = Project::new();
    project.write(
        "p.yaml",
        "report:\n  titel: x\n  stages: { on: x }\n  text: [1]\nstages:\n  one:\n    command: { run: [\"true\"], outputs: { \
         t: { path: t.csv, type: table } } }\n",
    );
    let told = project.dynvis(&["check", "p.yaml"]).expect(2).stderr;
    for wrong in ["titel", "`on`", "did you mean `one`", "did you mean `title`"] {
        assert!(told.contains(wrong), "{wrong}: {told}");
    }
    assert!(told.contains("3 problems"), "{told}");
}

#[test]
fn all_results_of_a_run_under_names_that_people_read() {
    let project = &*runs();
    project
        .dynvis(&["export", "--tables", "--pictures", "--models", "all", "@"])
        .expect(0);
    let printed = project
        .dynvis(&["show", "@", "noise/summary", "--format", "csv"])
        .expect(0)
        .stdout;
    assert_eq!(project.read("all/tables/noise/summary.csv"), printed);
    let again = project.dynvis(&["show", "all/tables/noise/summary.parquet", "--format", "csv"]);
    assert_eq!(again.expect(0).stdout, printed);
    assert!(project.path("all/tables/net@seed=1/training.parquet").is_file());
    for ending in ["svg", "pdf", "png"] {
        let figure = format!("all/pictures/noise/accuracy-over-the-level-of-noise.{ending}");
        assert!(project.path(&figure).is_file(), "{figure}");
        let network = format!("all/pictures/net/the-network-cordsnet-r2.{ending}");
        assert!(project.path(&network).is_file(), "{network}");
    }
    // A figure stands for the picture of the same that the stage stores.
    assert!(!project.path("all/pictures/noise/accuracy_gaussian_static.svg").exists());
    let captions = project.read("all/pictures/figures.md");
    assert!(
        captions.contains("## noise\n") && captions.contains("one standard deviation"),
        "{captions}"
    );
    project
        .dynvis(&["export", "all/models/net@seed=0.safetensors", "--out", "weights.pth"])
        .expect(0);
    let taken = project.dynvis(&["export", "--tables", "all"]).expect(2);
    assert!(taken.stderr.contains("no empty folder"), "{}", taken.stderr);
    let alone = project.dynvis(&["export", "net@seed=0", "@"]).expect(2);
    assert!(alone.stderr.contains("--tables"), "{}", alone.stderr);
}

/// The program of a browser, where there is one.
fn browser() -> Option<&'static str> {
    let starts = |name: &&str| {
        Command::new(name)
            .arg("--version")
            .output()
            .is_ok_and(|ran| ran.status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(starts)
}

/// A page after its scripts have run, and what the browser said.
fn shown(browser: &str, page: &Path) -> (String, String) {
    let profile = tempfile::tempdir().expect("a folder");
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ])
        .args([
            "--window-size=1300,900",
            "--virtual-time-budget=4000",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What a person does: sorts, filters, asks for more rows, points at a figure, goes through one by keys.
const PERSON: &str = r##"
<script>
(async () => {
  const wait = () => new Promise((done) => setTimeout(done, 50));
  const found = {};
  const table = document.querySelector('details[data-name="noise/summary"]');
  table.open = true;
  const cells = (name) => {
    const heads = [...table.querySelectorAll("th")].map((head) => head.textContent);
    return [...table.querySelectorAll("tbody tr")].map((row) => row.cells[heads.indexOf(name)].textContent);
  };
  const head = [...table.querySelectorAll("th button")].find((button) => button.textContent === "accuracy");
  const more = table.querySelector(".more");
  head.click();
  while (!more.hidden) more.click();
  found.ascending = cells("accuracy").map(Number);
  head.click();
  found.descending = cells("accuracy").map(Number);
  found.sorted = head.parentElement.getAttribute("aria-sort");
  const input = table.querySelector("input");
  const filter = (text) => {
    input.value = text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  filter('level>0.4 view="no recurrence"');
  found.levels = cells("level").map(Number);
  found.views = cells("view");
  found.count = table.querySelector(".count").textContent;
  filter("recurrence");
  found.words = cells("view");
  const figure = document.querySelector("#stage-noise figure");
  const svg = figure.querySelector(".panel > svg");
  svg.scrollIntoView();
  await wait();
  const dots = svg.querySelector("path.dots").getAttribute("d").split("M")[2].split("h")[0].split(",").map(Number);
  const box = svg.getBoundingClientRect();
  const scale = box.width / svg.viewBox.baseVal.width;
  svg.dispatchEvent(new PointerEvent("pointermove", {
    bubbles: true, clientX: box.left + dots[0] * scale + 2, clientY: box.top + dots[1] * scale - 2,
  }));
  found.tip = [...document.querySelectorAll("#tip div")].map((line) => line.textContent);
  found.ring = svg.querySelectorAll(".at circle").length;
  svg.focus();
  const press = (key) => svg.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  press("ArrowRight");
  press("ArrowRight");
  found.keys = [...document.querySelectorAll("#tip div")].map((line) => line.textContent);
  press("Escape");
  found.hidden = document.querySelector("#tip").hidden;
  const result = document.createElement("pre");
  result.id = "found";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
})();
</script>
"##;

#[test]
fn a_browser_opens_sorts_filters_and_shows_the_numbers_of_points() {
    let Some(browser) = browser() else {
        say("no chromium: the report was not opened in a browser");
        return;
    };
    let project = &*runs();
    let whole = page(project, &["@"], "opened.html");
    let file: PathBuf = project.path("opened.html");
    let (dom, said) = shown(browser, &file);
    assert!(dom.contains("data-ready="), "the script came to its end: {said}");
    let wrong: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    // Our policy lets no other script run; so this one is put into a copy without it.
    let policy = between(&whole, "<meta http-equiv", ">");
    let open = whole.replace(&format!("<meta http-equiv{policy}>"), "");
    project.write("tried.html", &open.replace("</body>", &format!("{PERSON}</body>")));
    let (dom, said) = shown(browser, &project.path("tried.html"));
    let wrong: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let found = between(&dom, "<pre id=\"found\">", "</pre>")
        .replace("&gt;", ">")
        .replace("&lt;", "<")
        .replace("&amp;", "&");
    let found: Json = serde_json::from_str(&found).expect("JSON");
    let numbers = |name: &str| -> Vec<f64> {
        let all = found[name].as_array().expect("a list").iter();
        all.map(|value| value.as_f64().expect("a number")).collect()
    };
    let shown = rows(project, "noise/summary");
    assert_eq!(numbers("ascending").len(), shown.len(), "all rows");
    assert!(numbers("ascending").is_sorted() && !numbers("descending").is_sorted());
    assert!(numbers("descending").iter().rev().is_sorted());
    assert_eq!(found["sorted"], "descending");
    let wanted = shown
        .iter()
        .filter(|row| row["level"].as_f64() > Some(0.4) && row["view"] == "no recurrence")
        .count();
    assert!(wanted > 0);
    assert_eq!(numbers("levels").len(), wanted);
    assert!(numbers("levels").iter().all(|level| *level > 0.4), "{found}");
    assert_eq!(found["count"], format!("{wanted} of {} rows", shown.len()));
    let words = found["words"].as_array().expect("a list");
    assert!(
        !words.is_empty() && words.iter().all(|view| view == "no recurrence"),
        "{found}"
    );
    // The second point of the first curve.
    assert_eq!(found["tip"][1], "level: 0.5", "{found}");
    assert!(
        found["tip"][2].as_str().expect("text").starts_with("accuracy: 0."),
        "{found}"
    );
    assert_eq!(found["ring"], 1);
    assert_eq!(found["keys"][1], "level: 0.5", "{found}");
    assert_eq!(found["hidden"], true);
}
