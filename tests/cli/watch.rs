//! `dynvis watch`: frames of runs that go on, ended, failed and were killed; the page and who may read it; that it
//! leaves no trace in a run.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value as Json;

use crate::chain::walk;
use crate::harness::{Project, say};
use crate::resume::{end, signal, start};

/// A training of so many epochs beside a program that says nothing.
fn training(epochs: usize) -> Project {
    let project = Project::with_presets();
    let text = format!(
        "
name: small
stages:
  digits:
    dataset: {{ use: dataset/digits, limit_per_class: 12, side: 16 }}
  net:
    train: {{ use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: {epochs}, warmup: 0, batch: 16 }}
  score:
    evaluate: {{ models: [net], data: digits }}
"
    );
    project.write("p.yaml", &text);
    project
}

/// Programs alone, of which one fails and says why.
fn failing() -> Project {
    let project = Project::new();
    project.write(
        "p.yaml",
        r#"
name: programs
stages:
  good:
    command: { run: [sh, -c, "echo 1 > out.txt"], outputs: { out: { path: out.txt } } }
  bad:
    command:
      run: [sh, -c, "echo an ordinary line >&2; printf '\\033[31mred\\033]0;title\\007 end\\n' >&2; exit 3"]
      outputs: { out: { path: out.txt } }
  after:
    command: { run: [cp, "{inputs.from}/out.txt", out.txt], inputs: { from: bad }, outputs: { out: { path: out.txt } } }
"#,
    );
    project
}

fn run_folder(project: &Project) -> PathBuf {
    let runs = std::fs::read_dir(project.path("cache/runs")).expect("runs").flatten();
    runs.map(|entry| entry.path()).max().expect("a run")
}

/// Pictures of the run that goes on until one is as wanted.
#[track_caller]
fn picture(project: &Project, arguments: &[&str], is_it: impl Fn(&str) -> bool) -> String {
    let all = [&["watch", "--once"], arguments].concat();
    let mut last = String::new();
    for _ in 0..600 {
        let ran = project.dynvis(&all);
        last = ran.stdout + &ran.stderr;
        if ran.code == 0 && is_it(&last) {
            return last;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("never seen; last:\n{last}");
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

fn has_curve(text: &str) -> bool {
    text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c) || c == '•')
}

#[test]
fn a_training_is_watched_while_it_runs_and_once_it_is_killed() {
    let project = training(100_000);
    let run = start(&project, &[]);
    let trains = |text: &str| text.contains("cross-entropy") && has_curve(text) && text.contains("epoch");
    let narrow = picture(&project, &["--width", "80"], trains);
    for part in [
        "small, run ",
        "running",
        "1 done, 1 running, 1 waiting",
        "since ",
        "accuracy (share of images)",
    ] {
        assert!(narrow.contains(part), "{part}:\n{narrow}");
    }
    assert!(widest(&narrow) <= 80, "{narrow}");
    assert!(!narrow.contains('\u{1b}'), "no colours go into a pipe");
    let wide = picture(&project, &["--width", "160", "@"], trains);
    assert!(widest(&wide) <= 160 && widest(&wide) > 80, "{wide}");
    assert!(wide.contains("images/s"), "{wide}");
    for width in ["1", "20", "40"] {
        let tiny = picture(&project, &["--width", width], |_| true);
        assert!(widest(&tiny) <= 80, "{tiny}");
    }
    signal(Signal::KILL, run.id());
    end(run);
    project.expect_no_process();
    let killed = picture(&project, &["--width", "400"], |text| text.contains("killed"));
    for part in [
        "stopped without recording an end",
        "last sign of life",
        "run p.yaml",
        "epoch",
    ] {
        assert!(killed.contains(part), "{part}:\n{killed}");
    }
    assert!(has_curve(&killed), "{killed}");
    // On another machine nobody sees its lock.
    let record = run_folder(&project).join("run.json");
    let text = std::fs::read_to_string(&record).expect("a record");
    let mut json: Json = serde_json::from_str(&text).expect("JSON");
    json["host"] = "another\u{1b}[2Jhost".into();
    std::fs::write(&record, json.to_string()).expect("written");
    let watch = || project.dynvis(&["watch", "--width", "400"]).expect(0).stdout;
    let elsewhere = watch();
    assert!(
        elsewhere.contains("seems to run") && elsewhere.contains("anotherhost"),
        "{elsewhere}"
    );
    let file = std::fs::OpenOptions::new()
        .append(true)
        .open(run_folder(&project).join("progress"));
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(7200);
    file.expect("the file").set_modified(long_ago).expect("its time");
    let gone = watch();
    assert!(gone.contains("killed") && gone.contains("2.0 h ago"), "{gone}");
}

#[test]
fn a_run_that_has_ended_is_shown_once_with_its_end() {
    let project = training(3);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let done = project.dynvis(&["watch"]).expect(0).stdout;
    for part in ["done", "3 of 3 stages: 3 done", "cross-entropy", "dynvis report"] {
        assert!(done.contains(part), "{part}:\n{done}");
    }
    assert!(has_curve(&done), "{done}");
    // One with nothing to do leaves nothing to watch, and is told of all the same.
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert!(!run_folder(&project).join("progress").exists());
    let cached = project.dynvis(&["watch", "@"]).expect(0).stdout;
    assert!(cached.contains("3 of 3 stages: 3 cached"), "{cached}");
    assert!(
        project
            .dynvis(&["watch", "@-1", "--once"])
            .expect(0)
            .stdout
            .contains("3 done")
    );
    let none = project.dynvis(&["watch", "@-7"]).expect(2);
    assert!(none.stderr.contains("no run `@-7`"), "{}", none.stderr);
    let empty = Project::new().dynvis(&["watch"]).expect(2);
    assert!(empty.stderr.contains("no runs yet"), "{}", empty.stderr);
}

#[test]
fn what_failed_is_told_with_the_end_of_its_log() {
    let project = failing();
    project.dynvis(&["run", "p.yaml", "--keep-going"]).expect(100);
    let text = project.dynvis(&["watch"]).expect(0).stdout;
    for part in [
        "failed",
        "1 done, 1 failed, 1 not reached",
        "bad failed: `sh` ended with exit status: 3",
        "| an ordinary line",
        "| red end",
        "whole log: dynvis log ",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
}

#[test]
fn whatever_stands_in_the_file_is_survived() {
    let project = failing();
    project.dynvis(&["run", "p.yaml"]).expect(100);
    let folder = run_folder(&project);
    let path = folder.join("progress");
    let sound = std::fs::read(&path).expect("a file of progress");
    // The record is that of a killed run, so that the file is what there is.
    let record = std::fs::read_to_string(folder.join("run.json")).expect("a record");
    let mut record: Json = serde_json::from_str(&record).expect("JSON");
    record["status"] = "running".into();
    record["finished_at"] = Json::Null;
    record["stages"] = Json::Array(Vec::new());
    std::fs::write(folder.join("run.json"), record.to_string()).expect("written");
    let watch = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        let ran = project.dynvis(&["watch", "--width", "100"]).expect(0);
        assert!(ran.stdout.contains("killed"), "{}", ran.stdout);
        ran.stdout
    };
    assert!(watch(&sound).contains("bad failed"));
    for end in 0..sound.len() {
        if end % 37 == 0 {
            watch(&sound[..end]);
        }
    }
    let mut seed = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    })
    .take(100_000)
    .collect();
    watch(&noise);
    let figures: Vec<String> = (0..5000).map(|i| format!("[\"loss{i}\",{i}e30]")).collect();
    let hostile = format!(
        "{{\"at\":1,\"said\":{{\"progress\":{{\"stage\":\"\\u001b[2J../../etc\",\"place\":{{\"done\":18446744073709551615,\
         \"total\":1,\"unit\":\"{}\",\"phase\":\"epoch 1/0\",\"figures\":[{}],\"milestone\":true,\"left\":-1e300}}}}}}}}\n",
        "u".repeat(3000),
        figures[..300].join(",")
    );
    let text = watch(hostile.as_bytes());
    assert!(!text.contains('\u{1b}'), "{text:?}");
    // A file of a terabyte, all holes, takes neither time nor memory.
    let file = std::fs::OpenOptions::new().append(true).open(&path).expect("opened");
    file.set_len(1 << 40).expect("holes");
    let huge = project.dynvis(&["watch", "--width", "400"]).expect(0).stdout;
    assert!(huge.contains("not all of it is read"), "{huge}");
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a folder in its place");
    project.dynvis(&["watch"]).expect(0);
}

/// A server of a page, ended with the test.
struct Served {
    child: Child,
    address: SocketAddr,
    token: String,
}

impl Served {
    fn of(project: &Project, arguments: &[&str]) -> Self {
        let all = [&["watch", "--serve"], arguments].concat();
        let mut command = project.command(&all);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("an address");
        let rest = line.trim().strip_prefix("http://").expect("an address");
        let (address, token) = rest.split_once('/').expect("a token");
        Self {
            child,
            address: address.parse().expect("an address and a port"),
            token: token.trim_end_matches('/').to_owned(),
        }
    }

    /// What is answered to these bytes.
    fn send(&self, bytes: &str) -> String {
        let mut connection = TcpStream::connect(self.address).expect("a connection");
        let mut answer = String::new();
        // What is refused may be cut off on both ways.
        let _ = connection.write_all(bytes.as_bytes());
        let _ = connection.read_to_string(&mut answer);
        answer
    }

    fn ask(&self, method: &str, path: &str, host: &str) -> String {
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    fn get(&self, path: &str) -> String {
        self.ask("GET", path, &self.address.to_string())
    }

    fn state(&self) -> Json {
        let answer = self.get(&format!("/{}/state.json", self.token));
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains("application/json"), "{head}");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_page_is_for_those_who_have_its_address_and_reads_alone() {
    let project = failing();
    project.dynvis(&["run", "p.yaml", "--keep-going"]).expect(100);
    let served = Served::of(&project, &[]);
    assert!(served.address.ip().is_loopback());
    assert!(served.token.len() * 6 >= 128, "{}", served.token);
    let token = served.token.clone();
    let page = served.get(&format!("/{token}/"));
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    let (head, html) = page.split_once("\r\n\r\n").expect("a body");
    for part in [
        "default-src 'none'",
        "frame-ancestors 'none'",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "X-Content-Type-Options: nosniff",
    ] {
        assert!(head.contains(part), "{part}: {head}");
    }
    assert!(!head.contains("unsafe"), "{head}");
    assert!(!html.contains("http://") || html.matches("http://").count() == html.matches("http://www.w3.org").count());
    assert!(served.get(&format!("/{token}")).starts_with("HTTP/1.1 200 "));
    let state = served.state();
    assert_eq!(
        (&state["state"], &state["selected"]),
        (&"failed".into(), &3.into()),
        "{state:#}"
    );
    assert_eq!(state["failed"][0]["stage"], "bad");
    let log = state["failed"][0]["log"].to_string();
    assert!(log.contains("red end") && !log.contains("u001b"), "{log}");
    let status = |answer: &str| answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let other = token.chars().rev().collect::<String>();
    for path in [
        "/".to_owned(),
        format!("/{other}/"),
        format!("/{other}/state.json"),
        "/state.json".to_owned(),
        format!("/{}/", &token[..token.len() - 1]),
        format!("/{token}/../state.json"),
        format!("/{token}/../../../../etc/passwd"),
        format!("/{token}/%2e%2e/p.yaml"),
        format!("/{token}/p.yaml"),
        format!("//{token}/"),
        format!("http://127.0.0.1/{token}/"),
    ] {
        assert_eq!(status(&served.get(&path)), "404", "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "get"] {
        let answer = served.ask(method, &format!("/{token}/"), "localhost");
        assert_eq!(status(&answer), "405", "{method}");
    }
    for host in ["localhost", "localhost:80", "127.0.0.1", "[::1]:9"] {
        assert_eq!(status(&served.ask("GET", &format!("/{token}/"), host)), "200", "{host}");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
        "localhost.evil.example:80",
    ] {
        assert_eq!(status(&served.ask("GET", &format!("/{token}/"), host)), "403", "{host}");
    }
    let path = format!("/{token}/");
    for (bytes, expected) in [
        (format!("GET {path} HTTP/1.1\r\n\r\n"), "403"),
        (
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"),
            "403",
        ),
        ("\0\u{1}\u{2} nonsense\r\n\r\n".to_owned(), "400"),
        (
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
                "y".repeat(20_000)
            ),
            "431",
        ),
    ] {
        let answer = served.send(&bytes);
        // Of a request that is too long the rest may arrive at a closed door.
        assert!(
            status(&answer) == expected || (expected == "431" && answer.is_empty()),
            "{expected}: {answer}"
        );
    }
    // Those who say nothing hold nobody up.
    let silent: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(served.address).expect("connected"))
        .collect();
    assert_eq!(served.state()["run"], state["run"]);
    drop(silent);
    let wrong = project.dynvis(&["watch", "--serve", "@"]).expect(2);
    assert!(wrong.stderr.contains("an address and a port"), "{}", wrong.stderr);
}

/// Files of a cache, without the names of runs.
fn files(project: &Project) -> BTreeSet<String> {
    let cache = project.path("cache");
    let runs = cache.join("runs");
    walk(&cache)
        .iter()
        .map(|file| {
            let run = file
                .strip_prefix(&runs)
                .ok()
                .and_then(|path| Some(path.strip_prefix(path.iter().next()?).ok()?.to_owned()));
            match run {
                Some(rest) => format!("runs/RUN/{}", rest.display()),
                None => file.strip_prefix(&cache).expect("below").display().to_string(),
            }
        })
        // Measurements: names follow from times.
        .filter(|file| !file.starts_with("objects/"))
        .collect()
}

#[test]
fn a_run_that_is_watched_is_the_same_as_one_that_is_not() {
    let [alone, watched] = [training(4), training(4)];
    for project in [&alone, &watched] {
        project.dynvis(&["run", "p.yaml", "digits"]).expect(0);
    }
    // Of a run that is gone before the other one begins.
    let served = Served::of(&watched, &["127.0.0.1:0"]);
    for project in [&alone, &watched] {
        std::fs::remove_dir_all(project.path("cache/runs")).expect("removed");
        std::fs::create_dir(project.path("cache/runs")).expect("made");
    }
    alone.dynvis(&["run", "p.yaml"]).expect(0);
    let mut run = start(&watched, &[]);
    let mut seen = 0;
    while run.try_wait().expect("a process").is_none() {
        let ran = watched.dynvis(&["watch", "--once", "@"]);
        seen += usize::from(ran.code == 0);
        served.state();
    }
    end(run).expect(0);
    say(&format!("watched {seen} times"));
    assert!(seen > 0);
    assert_eq!(files(&alone), files(&watched));
    let model = |project: &Project| {
        let runs = project.dynvis(&["runs", "--json", "-n", "1"]).expect(0).json();
        let stages = runs[0]["stages"].as_array().expect("stages").clone();
        let net = stages
            .into_iter()
            .find(|stage| stage["name"] == "net")
            .expect("a network");
        let outputs = net["outputs"].as_array().expect("outputs").clone();
        outputs
            .into_iter()
            .find(|output| output["slot"] == "model")
            .expect("a model")["content"]
            .clone()
    };
    assert_eq!(model(&alone), model(&watched));
}
