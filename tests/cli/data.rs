//! `dynvis data`: the list, what a user is told, and transfers from a server on the loopback. How transfers go on, and
//! what they refuse, is tested in `src/data/tests.rs`.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::harness::{Project, Ran};

/// A server that gives the same answer to everything.
fn server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Requests are short: what comes first is all of it.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    format!("http://{address}")
}

/// `data get` without the environment's proxies and without patience.
fn get(project: &Project, arguments: &[&str]) -> Ran {
    let mut all = vec!["data", "get", "--retries", "0", "--timeout", "5"];
    all.extend(arguments);
    let mut command = project.command(&all);
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "DYNVIS_DATA_MIRROR",
    ] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    command.output().expect("the binary starts").into()
}

/// State of a set, as `data --json` says it.
fn state(project: &Project, name: &str) -> String {
    let list = project.dynvis(&["data", "--json"]).expect(0).json();
    let sets = list["sets"].as_array().expect("sets");
    let set = sets.iter().find(|set| set["set"]["name"] == name).expect("the set");
    set["presence"]["state"].as_str().expect("a state").to_owned()
}

#[test]
fn sets_are_listed_with_size_licence_and_place() {
    let project = Project::new();
    let list = project.dynvis(&["data"]).expect(0);
    for word in [
        "mnist",
        "fashion_mnist",
        "emnist",
        "cifar10",
        "cifar100",
        "imagenette",
        "tiny_imagenet",
        "cifar10_c",
        "cifar100_c",
        "imagenet",
        "missing, by hand",
        "170.1 MB",
        "data/cifar10",
        "CC BY 4.0",
    ] {
        assert!(list.stdout.contains(word), "no {word} in {}", list.stdout);
    }
    assert_eq!(project.dynvis(&["data", "get"]).expect(0).stdout, list.stdout);
    let json = project.dynvis(&["data", "--json"]).expect(0).json();
    let sets = json["sets"].as_array().expect("sets");
    let cifar = sets
        .iter()
        .find(|set| set["set"]["name"] == "cifar10")
        .expect("CIFAR-10");
    let checksum = &cifar["set"]["files"][0]["checksums"][0]["md5"];
    assert_eq!(checksum, "c32a1d4ab5d03f1284b67883e8d87530");
    assert!(
        !project.path("data").exists() && !project.path("cache").exists(),
        "asking makes nothing"
    );
}

#[test]
fn a_dry_run_says_from_where_and_whom_to_cite() {
    let project = Project::new();
    let ran = get(&project, &["cifar10", "--dry-run"]).expect(0);
    for word in [
        "Krizhevsky",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "170052171 bytes",
        "MD5 c32a1d4ab5d03f1284b67883e8d87530",
    ] {
        assert!(ran.stdout.contains(word), "no {word} in {}", ran.stdout);
    }
    let ran = get(&project, &["cifar10", "--dry-run", "--mirror", "http://lab/{set}"]).expect(0);
    assert!(
        ran.stdout.contains("http://lab/cifar10/cifar-10-binary.tar.gz"),
        "{}",
        ran.stdout
    );
    assert!(
        !ran.stdout.contains("toronto.edu/~kriz/cifar-10-binary"),
        "{}",
        ran.stdout
    );
    assert!(!project.path("data").exists());
}

#[test]
fn names_that_are_not_known_and_sets_that_are_fetched_by_hand() {
    let project = Project::new();
    let ran = get(&project, &["cifer10"]).expect(2);
    assert!(ran.stderr.contains("no data set `cifer10`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("did you mean `cifar10`?"), "{}", ran.stderr);
    let ran = get(&project, &["../mnist"]).expect(2);
    assert!(ran.stderr.contains("no data set"), "{}", ran.stderr);
    let ran = get(&project, &["imagenet"]).expect(2);
    assert!(
        ran.stderr.contains("https://image-net.org/download.php"),
        "{}",
        ran.stderr
    );
    assert!(!project.path("data").exists());
}

#[test]
fn an_address_that_does_not_give_the_file_is_named_with_the_reason() {
    let project = Project::new();
    let gone = server(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let page = server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    let ran = get(&project, &["cifar10", "--mirror", &gone, "--mirror", &page]).expect(2);
    for text in [
        "error: no address gave `cifar-10-binary.tar.gz`".to_owned(),
        format!("because: {gone}/cifar-10-binary.tar.gz answers 404 Not Found"),
        format!("because: {page}/cifar-10-binary.tar.gz has 5 bytes; 170052171 are published"),
        "hint: ".to_owned(),
    ] {
        assert!(ran.stderr.contains(&text), "no {text} in {}", ran.stderr);
    }
    let left = std::fs::read_dir(project.path("data/cifar10"))
        .expect("the folder")
        .count();
    assert_eq!(left, 0);
    assert_eq!(state(&project, "cifar10"), "missing");
}

#[test]
fn what_came_is_kept_and_listed() {
    let project = Project::new();
    let broken = server(
        b"HTTP/1.1 200 OK\r\nContent-Length: 170052171\r\nETag: \"a\"\r\nConnection: close\r\n\r\nthe beginning",
    );
    let ran = get(&project, &["cifar10", "--mirror", &broken]).expect(2);
    assert!(
        ran.stderr.contains("broke off after 13 of 170052171 bytes"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        project.read("data/cifar10/cifar-10-binary.tar.gz.part"),
        "the beginning"
    );
    assert_eq!(state(&project, "cifar10"), "partial");
    let list = project.dynvis(&["data"]).expect(0);
    assert!(list.stdout.contains("partial, 13 B"), "{}", list.stdout);
}

#[test]
fn one_set_that_fails_does_not_keep_the_others_back() {
    let project = Project::new();
    let gone = server(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let ran = get(&project, &["cifar10", "cifar100", "--mirror", &gone]).expect(2);
    assert!(
        ran.stderr.contains("cifar-100-binary.tar.gz answers 404"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("2 of 2 sets are not complete: cifar10, cifar100"),
        "{}",
        ran.stderr
    );
}

#[test]
fn files_of_another_size_are_damaged_and_not_replaced_unasked() {
    let project = Project::new();
    project.write("data/cifar10/cifar-10-binary.tar.gz", "somebody's own");
    let list = project.dynvis(&["data"]).expect(0);
    assert!(
        list.stderr.contains("has 14 bytes; 170052171 are published"),
        "{}",
        list.stderr
    );
    project.dynvis(&["data", "--verify"]).expect(102);
    let ran = get(&project, &["cifar10", "--mirror", "http://127.0.0.1:9"]).expect(2);
    assert!(ran.stderr.contains("`--replace`"), "{}", ran.stderr);
    assert_eq!(project.read("data/cifar10/cifar-10-binary.tar.gz"), "somebody's own");
}

#[test]
fn files_that_pipelines_read_as_well_need_no_fetching() {
    let project = Project::new();
    for name in [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
    ] {
        project.write(&format!("data/mnist/raw/{name}"), "unpacked");
    }
    assert_eq!(state(&project, "mnist"), "other");
    project.write("data/mnist/raw/t10k-labels-idx1-ubyte", "unpacked");
    assert_eq!(state(&project, "mnist"), "complete");
    let ran = get(&project, &["mnist", "--mirror", "http://127.0.0.1:9"]).expect(0);
    assert!(ran.stderr.contains("mnist: complete"), "{}", ran.stderr);
}

#[test]
fn a_pipeline_without_its_data_says_how_it_comes() {
    let project = Project::new();
    project.write("p.yaml", "stages: { images: { dataset: { source: cifar10 } } }\n");
    let ran = project.dynvis(&["run", "p.yaml"]).expect(2);
    assert!(ran.stderr.contains("`dynvis data get cifar10`"), "{}", ran.stderr);
}

#[test]
fn progress_as_json_is_one_object_a_line() {
    let project = Project::new();
    let broken = server(b"HTTP/1.1 200 OK\r\nContent-Length: 170052171\r\nConnection: close\r\n\r\nthe beginning");
    let ran = get(&project, &["cifar10", "--mirror", &broken, "--progress", "json"]).expect(2);
    let lines = ran.stderr.lines().take_while(|line| line.starts_with('{'));
    let events: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events[0]["event"], "started");
    assert_eq!(events[0]["bytes"], 170_052_171_u64);
    assert!(events.iter().any(|event| event["event"] == "trouble"), "{}", ran.stderr);
    assert!(events.iter().all(|event| event["set"] == "cifar10"), "{}", ran.stderr);
}
