use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::scan::{Read, find};
use super::*;
use crate::key::{Identity, StageKey, description, stage_key};

/// All files below a folder, links followed, as the rule of a stage would list them.
fn listed(root: &Path) -> FileList {
    fn walk(root: &Path, within: &Path, list: &mut FileList) {
        let folder = list.add_folder(within);
        let entries = std::fs::read_dir(root.join(within)).expect("a folder");
        for entry in entries.map(|entry| entry.expect("an entry")) {
            match entry.path().is_dir() {
                true => walk(root, &within.join(entry.file_name()), list),
                false => list.push(folder, &entry.file_name()),
            }
        }
    }
    let mut list = FileList::new(root);
    walk(root, Path::new(""), &mut list);
    list
}

fn observe(root: &Path, place: &Path) -> FileTree {
    FileTree::observe("", listed(root), place, &mut |_| {}).expect("readable")
}

/// Files that an observation would read.
fn unread(root: &Path, place: &Path) -> u64 {
    let mut files = 0;
    FileTree::observe("", listed(root), place, &mut |reading| files = reading.files).expect("readable");
    files
}

/// Until what was written may be remembered.
fn settle() {
    std::thread::sleep(Duration::from_millis(2_050));
}

fn identity<'a>(files: &'a [(String, ContentHash)], trees: &'a [Arc<FileTree>]) -> Identity<'a> {
    Identity {
        kind: "dataset",
        code_version: 2,
        params: &serde_json::Value::Null,
        inputs: &[],
        members: &[],
        files,
        trees,
        environment: &[],
        outputs: &[],
    }
}

/// The key with the files one by one.
fn key_of_single_files(root: &Path, more: &[(String, ContentHash)]) -> StageKey {
    let mut list = listed(root);
    list.sort();
    let mut files: Vec<(String, ContentHash)> = (0..list.len())
        .map(|i| (list.within(i), crate::key::hash_file(&list.path(i)).expect("hashed")))
        .collect();
    files.extend_from_slice(more);
    stage_key(&identity(&files, &[]))
}

#[test]
fn keys_and_descriptions_are_those_of_single_files() {
    let folder = tempfile::tempdir().expect("folder");
    let (root, place) = (folder.path().join("data"), folder.path().join("place"));
    for name in [
        "cat/1",
        "cat/2",
        "cat-big/1",
        "cat.png",
        "dog/deep/3",
        "dog/x",
        "labels",
        "zz",
    ] {
        let path = root.join(name);
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs_err::write(path, name).expect("written");
    }
    fs_err::write(root.join(OsStr::from_bytes(b"cat/\xff\\")), "odd").expect("written");
    let hash = |text: &str| ContentHash::new(&blake3::hash(text.as_bytes()));
    for more in [
        vec![],
        vec![("labels".to_owned(), hash("a table"))],
        vec![("zzz".to_owned(), hash("1")), ("a".to_owned(), hash("2"))],
    ] {
        let trees = [Arc::new(observe(&root, &place))];
        let expected = key_of_single_files(&root, &more);
        assert_eq!(stage_key(&identity(&more, &trees)), expected);
        // Also where they are in several trees.
        let halves = ["cat", "dog"].map(|half| {
            let list = listed(&root.join(half));
            let prefix = format!("{half}/");
            Arc::new(FileTree::observe(&prefix, list, &place, &mut |_| {}).expect("readable"))
        });
        let mut rest = more.clone();
        for name in ["cat-big/1", "cat.png", "labels", "zz"] {
            rest.push((name.to_owned(), hash(name)));
        }
        assert_eq!(stage_key(&identity(&rest, &halves)), expected);
        let (one, several) = (
            description(&identity(&more, &trees)),
            description(&identity(&rest, &halves)),
        );
        // A slot that two files have stands there once, with either of them.
        if more.len() != 1 {
            assert_eq!(one["files"].as_object().map(serde_json::Map::len), Some(9 + more.len()));
            assert_eq!(one, several);
        }
    }
}

#[test]
fn what_has_not_changed_is_not_read_and_what_has_just_changed_is_read_every_time() {
    let folder = tempfile::tempdir().expect("folder");
    let (root, place) = (folder.path().join("data"), folder.path().join("place"));
    fs_err::create_dir_all(root.join("a")).expect("folders");
    for i in 0..3 * records::PER_BLOCK {
        fs_err::write(root.join(format!("a/{i}")), i.to_string()).expect("written");
    }
    assert!(unread(&root, &place) > 0);
    settle();
    let files = 3 * records::PER_BLOCK as u64;
    assert!(unread(&root, &place) > 0, "just written when it was first read");
    assert_eq!(unread(&root, &place), 0);
    assert_eq!(remembered(&place) as u64, files);
    let before = observe(&root, &place);
    assert_eq!(before.change(listed(&root), &place).expect("readable"), None);

    // Other content of the same size, and the time of modification set back.
    let edited = root.join("a/700");
    let modified = fs_err::metadata(&edited).and_then(|m| m.modified()).expect("a time");
    fs_err::write(&edited, "007").expect("written");
    let file = File::options().write(true).open(&edited).expect("opened");
    file.set_modified(modified).expect("set back");
    assert_eq!(
        before.change(listed(&root), &place).expect("readable"),
        Some(edited.clone())
    );
    assert_eq!((unread(&root, &place), unread(&root, &place)), (1, 1), "young");
    let after = observe(&root, &place);
    assert_ne!(before.digest(), after.digest());
    // Changed back: what it was before, but it may have been read meanwhile.
    fs_err::write(&edited, "700").expect("written");
    assert_eq!(before.digest(), observe(&root, &place).digest());
    assert_eq!(before.change(listed(&root), &place).expect("readable"), Some(edited));

    // Two files that change places.
    let path = |name: &str| root.join("a").join(name);
    fs_err::rename(path("1"), path("x")).expect("renamed");
    fs_err::rename(path("2"), path("1")).expect("renamed");
    fs_err::rename(path("x"), path("2")).expect("renamed");
    assert_ne!(before.digest(), observe(&root, &place).digest());
    // One that came, one that went.
    let now = observe(&root, &place);
    fs_err::write(path("new"), "").expect("written");
    assert_eq!(now.change(listed(&root), &place).expect("readable"), Some(path("new")));
    fs_err::remove_file(path("new")).expect("removed");
    fs_err::remove_file(path("0")).expect("removed");
    assert_eq!(now.change(listed(&root), &place).expect("readable"), Some(path("0")));
}

#[test]
fn links_are_followed_and_one_that_leads_elsewhere_is_a_change() {
    let folder = tempfile::tempdir().expect("folder");
    let (root, place) = (folder.path().join("data"), folder.path().join("place"));
    let other = folder.path().join("other");
    for path in [&root, &other] {
        fs_err::create_dir_all(path.join("a")).expect("folders");
        fs_err::write(path.join("a/x"), path.as_os_str().as_bytes()).expect("written");
    }
    symlink(other.join("a/x"), root.join("link")).expect("linked");
    let before = observe(&root, &place);
    assert_eq!(before.change(listed(&root), &place).expect("readable"), None);
    // To another file and back: the target is what it was, but the link has changed.
    fs_err::remove_file(root.join("link")).expect("removed");
    symlink(other.join("a/x"), root.join("link")).expect("linked");
    assert_eq!(before.digest(), observe(&root, &place).digest());
    let changed = before.change(listed(&root), &place).expect("readable");
    assert_eq!(changed, Some(root.join("link")));
    // A folder whose place a link to another one takes.
    settle();
    let before = observe(&root, &place);
    fs_err::rename(root.join("a"), folder.path().join("moved")).expect("renamed");
    symlink(other.join("a"), root.join("a")).expect("linked");
    assert_ne!(before.digest(), observe(&root, &place).digest());
    let changed = before.change(listed(&root), &place).expect("readable");
    assert_eq!(changed, Some(root.join("a/x")));
    // What is no regular file is no content, and is not waited for.
    fs_err::remove_file(root.join("link")).expect("removed");
    symlink("/dev/zero", root.join("link")).expect("linked");
    let error = FileTree::observe("", listed(&root), &place, &mut |_| {}).expect_err("refused");
    assert!(
        error.path.ends_with("link") && error.source.to_string().contains("a device"),
        "{error:?}"
    );
}

/// Files of a tree that were set to an age by which they may be remembered at once cannot be had: nobody can set the
/// time of change. So one folder serves all the accidents.
#[test]
fn a_damaged_or_cut_off_cache_is_as_if_that_part_were_not_there() {
    let folder = tempfile::tempdir().expect("folder");
    let (root, place) = (folder.path().join("data"), folder.path().join("place"));
    fs_err::create_dir_all(&root).expect("folder");
    let count = 2 * records::PER_BLOCK + 100;
    for i in 0..count {
        fs_err::write(root.join(format!("{i:05}")), i.to_string()).expect("written");
    }
    settle();
    let digest = observe(&root, &place).digest();
    let whole = fs_err::read(&place).expect("written");
    assert_eq!(unread(&root, &place), 0);
    let per_block = records::PER_BLOCK as u64;
    let with = |bytes: &[u8], unread_files: std::ops::RangeInclusive<u64>| {
        fs_err::write(&place, bytes).expect("written");
        let found = unread(&root, &place);
        assert!(unread_files.contains(&found), "{found}");
        assert_eq!(observe(&root, &place).digest(), digest);
        assert_eq!(unread(&root, &place), 0, "it is whole again");
    };
    with(&[], count as u64..=count as u64);
    with(b"dynvis stats 2\n\0", count as u64..=count as u64);
    with(&whole[..whole.len() - 1], 100..=100);
    with(&whole[..whole.len() / 2], per_block..=count as u64);
    for at in (0..whole.len()).step_by(whole.len() / 97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        with(&bytes, 1..=count as u64);
    }
    // A number of bytes that no file has.
    let mut bytes = whole.clone();
    bytes[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    with(&bytes, count as u64..=count as u64);

    // What a killed process left is taken up, with what was there before behind it.
    let part = folder.path().join("place.part");
    fs_err::write(&part, &whole[..whole.len() / 2]).expect("written");
    fs_err::remove_file(&place).expect("removed");
    assert_eq!(unread(&root, &place), count as u64 - per_block);
    assert!(!part.exists());
    fs_err::write(&part, &whole[..whole.len() / 2]).expect("written");
    assert_eq!(unread(&root, &place), 0);
    // While another process has it, it is left alone, and nothing is remembered.
    fs_err::write(&part, &whole[..whole.len() / 2]).expect("written");
    fs_err::remove_file(&place).expect("removed");
    let held = File::open(&part).expect("opened");
    held.lock().expect("locked");
    assert_eq!(observe(&root, &place).digest(), digest);
    assert!(!place.exists() && part.exists());
    drop(held);
    // Where nothing can be written, nothing is remembered.
    let nowhere = folder.path().join("gone/place");
    assert_eq!(observe(&root, &nowhere).digest(), digest);
    assert!(!nowhere.exists());
}

#[test]
fn several_at_once_find_the_same_for_any_number_of_threads() {
    let folder = tempfile::tempdir().expect("folder");
    let (root, place) = (folder.path().join("data"), folder.path().join("place"));
    fs_err::create_dir_all(&root).expect("folder");
    for i in 0..3000 {
        fs_err::write(root.join(i.to_string()), i.to_string()).expect("written");
    }
    settle();
    let digests: Vec<ContentHash> = std::thread::scope(|scope| {
        let observers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| observe(&root, &place).digest()))
            .collect();
        observers
            .into_iter()
            .map(|observer| observer.join().expect("ends"))
            .collect()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .expect("a thread");
    let found = |read: Read| {
        let mut list = listed(&root);
        list.sort();
        find(&list, read, &folder.path().join("fresh"), &mut |_| {})
            .expect("readable")
            .values
    };
    let alone = one.install(|| found(content));
    assert_eq!(alone, found(content));
    assert_eq!(unread(&root, &place), 0);
}

#[test]
fn heads_are_remembered_like_contents() {
    let folder = tempfile::tempdir().expect("folder");
    let (root, place) = (folder.path().join("data"), folder.path().join("place"));
    fs_err::create_dir_all(&root).expect("folder");
    for (name, bytes) in [
        ("b", &b"\xff\xd8\xff and more than sixteen bytes"[..]),
        ("a", b""),
        ("c", b"GIF89a"),
    ] {
        fs_err::write(root.join(name), bytes).expect("written");
    }
    settle();
    let expected = [
        Head::new(b""),
        Head::new(b"\xff\xd8\xff and more than sixteen bytes"),
        Head::new(b"GIF89a"),
    ];
    for _ in 0..2 {
        assert_eq!(heads(&mut listed(&root), &place).expect("readable"), expected);
    }
    assert_eq!(remembered(&place), 3);
    fs_err::write(root.join("c"), b"BM").expect("written");
    let now = heads(&mut listed(&root), &place).expect("readable");
    assert_eq!(now[2].bytes(), b"BM");
}

#[test]
fn differences_are_counted_and_named() {
    let folder = tempfile::tempdir().expect("folder");
    let (root, place) = (folder.path().join("data"), folder.path().join("place"));
    let kept = folder.path().join("kept");
    fs_err::create_dir_all(&root).expect("folder");
    for i in 0..1500 {
        fs_err::write(root.join(format!("{i:04}")), i.to_string()).expect("written");
    }
    let write = |trees: &[Arc<FileTree>]| {
        let mut bytes = Vec::new();
        write_files(trees, &mut bytes).expect("written");
        fs_err::write(&kept, bytes).expect("written");
    };
    let observed =
        |prefix: &str| Arc::new(FileTree::observe(prefix, listed(&root), &place, &mut |_| {}).expect("read"));
    write(&[observed("")]);
    assert_eq!(FileChanges::since(&kept, &observed("")), Some(FileChanges::default()));
    // Other trees of the same stage are not looked at.
    write(&[observed("1/"), observed("0/"), observed("10/")]);
    assert_eq!(FileChanges::since(&kept, &observed("1/")), Some(FileChanges::default()));
    write(&[observed("")]);
    fs_err::write(root.join("0700"), "x").expect("written");
    fs_err::write(root.join("07000"), "x").expect("written");
    fs_err::remove_file(root.join("1499")).expect("removed");
    fs_err::remove_file(root.join("0000")).expect("removed");
    let expected = FileChanges {
        changed: 1,
        added: 1,
        removed: 2,
        examples: ["0000", "0700", "07000", "1499"].map(str::to_owned).to_vec(),
    };
    assert_eq!(FileChanges::since(&kept, &observed("")), Some(expected));
    assert_eq!(FileChanges::since(&place, &observed("")), None, "another kind of file");
}

/// ImageNet in small.
#[test]
fn tens_of_thousands_of_files_are_looked_at_in_seconds() {
    const FOLDERS: usize = 60;
    const FILES: usize = 1_000;
    let folder = tempfile::tempdir().expect("folder");
    let (root, place) = (folder.path().join("data"), folder.path().join("place"));
    for class in 0..FOLDERS {
        let class = root.join(format!("train/n{class:08}"));
        fs_err::create_dir_all(&class).expect("folders");
        for i in 0..FILES {
            std::fs::write(class.join(format!("{i}.JPEG")), i.to_string()).expect("written");
        }
    }
    settle();
    let first = observe(&root, &place);
    assert_eq!(first.len(), FOLDERS * FILES);
    let started = std::time::Instant::now();
    assert_eq!(unread(&root, &place), 0);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(fs_err::metadata(&place).expect("written").len() < 110 * first.len() as u64);
    let edited = root.join("train/n00000042/7.JPEG");
    fs_err::write(&edited, "8").expect("written");
    assert_eq!(unread(&root, &place), 1);
    assert_ne!(observe(&root, &place).digest(), first.digest());
    assert_eq!(first.change(listed(&root), &place).expect("readable"), Some(edited));
}

/// What happens to a folder between two looks at it.
#[derive(Clone, Debug)]
enum Edit {
    /// Content of the same size, and the time of modification as it was.
    Rewrite(u8, u8),
    Write(u8, String),
    Remove(u8),
    Rename(u8, u8),
    Swap(u8, u8),
    /// A link to a file outside.
    Link(u8, u8),
    Damage(u32),
    Wait,
}

fn edits() -> impl Strategy<Value = Edit> {
    let name = 0..12u8;
    prop_oneof![
        4 => (name.clone(), any::<u8>()).prop_map(|(a, b)| Edit::Rewrite(a, b)),
        4 => (name.clone(), "[a-c]{0,3}").prop_map(|(a, text)| Edit::Write(a, text)),
        2 => name.clone().prop_map(Edit::Remove),
        2 => (name.clone(), name.clone()).prop_map(|(a, b)| Edit::Rename(a, b)),
        2 => (name.clone(), name.clone()).prop_map(|(a, b)| Edit::Swap(a, b)),
        1 => (name.clone(), name).prop_map(|(a, b)| Edit::Link(a, b)),
        1 => any::<u32>().prop_map(Edit::Damage),
        1 => Just(Edit::Wait),
    ]
}

/// Names that are alike but for their case, that sort one way as names and another way as paths, or are no UTF-8.
fn path_of(root: &Path, name: u8) -> PathBuf {
    let names: [&[u8]; 12] = [
        b"a/x",
        b"a/X",
        b"a-b/x",
        b"a.b",
        b"A/x",
        b"x",
        b"a/\xff",
        b"a/\xfe",
        b"a/\\xff",
        b"z/deep/x",
        b"z/deep-/x",
        b"zz",
    ];
    root.join(OsStr::from_bytes(names[usize::from(name) % names.len()]))
}

fn apply(root: &Path, outside: &Path, place: &Path, edit: &Edit) {
    // What an edit is about need not be there.
    match edit {
        Edit::Write(name, text) => {
            let path = path_of(root, *name);
            let _ = fs_err::remove_file(&path);
            let _ = fs_err::write(path, text);
        }
        Edit::Rewrite(name, byte) => {
            let path = path_of(root, *name);
            if let Ok(file) = File::options().write(true).open(&path) {
                let modified = file
                    .metadata()
                    .and_then(|m| m.modified())
                    .unwrap_or(SystemTime::UNIX_EPOCH);
                if file.metadata().is_ok_and(|m| m.len() > 0) {
                    file.write_all_at(&[*byte], 0).expect("written");
                }
                file.set_modified(modified).expect("set");
            }
        }
        Edit::Remove(name) => drop(fs_err::remove_file(path_of(root, *name))),
        Edit::Rename(from, to) => drop(fs_err::rename(path_of(root, *from), path_of(root, *to))),
        Edit::Swap(a, b) => {
            let (a, b) = (path_of(root, *a), path_of(root, *b));
            if a.exists() && b.exists() && a != b {
                let aside = outside.join("aside");
                fs_err::rename(&a, &aside).expect("renamed");
                fs_err::rename(&b, &a).expect("renamed");
                fs_err::rename(&aside, &b).expect("renamed");
            }
        }
        Edit::Link(name, target) => {
            let target = outside.join(format!("target{}", target % 3));
            fs_err::write(&target, [*name]).expect("written");
            let path = path_of(root, *name);
            let _ = fs_err::remove_file(&path);
            symlink(target, path).expect("linked");
        }
        Edit::Damage(at) => {
            if let Ok(mut bytes) = fs_err::read(place)
                && !bytes.is_empty()
            {
                let at = *at as usize % bytes.len();
                bytes[at] ^= 1 << (at % 8);
                fs_err::write(place, bytes).expect("written");
            }
        }
        Edit::Wait => settle(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever happens between two looks, what is found is what a look without memory finds, and what has changed
    /// since the look before is noticed.
    #[test]
    fn nothing_remembered_outlives_a_change(
        rounds in prop::collection::vec(prop::collection::vec(edits(), 0..6), 1..6)
    ) {
        let folder = tempfile::tempdir().expect("folder");
        let [root, outside, place] = ["data", "outside", "p"].map(|name| folder.path().join(name));
        fs_err::create_dir_all(&outside).expect("folder");
        for name in 0..12 {
            let path = path_of(&root, name);
            fs_err::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs_err::write(path, [name, 7]).expect("written");
        }
        let contents = || -> BTreeMap<String, Vec<u8>> {
            let mut list = listed(&root);
            list.sort();
            (0..list.len()).map(|i| (list.within(i), fs_err::read(list.path(i)).expect("read"))).collect()
        };
        let mut before: Option<(FileTree, BTreeMap<String, Vec<u8>>)> = None;
        for edits in rounds {
            edits.iter().for_each(|edit| apply(&root, &outside, &place, edit));
            let now = contents();
            if let Some((tree, old)) = &before {
                let change = tree.change(listed(&root), &place).expect("readable");
                prop_assert!(*old == now || change.is_some(), "{edits:?}");
                prop_assert!(!edits.is_empty() || change.is_none(), "{change:?}");
            }
            let tree = observe(&root, &place);
            let found: BTreeMap<String, ContentHash> = tree.listed().collect();
            let expected: BTreeMap<String, ContentHash> = now
                .iter()
                .map(|(slot, bytes)| (slot.clone(), ContentHash::new(&blake3::hash(bytes))))
                .collect();
            prop_assert_eq!(found, expected);
            let trees = [Arc::new(observe(&root, &place))];
            prop_assert_eq!(stage_key(&identity(&[], &trees)), key_of_single_files(&root, &[]));
            before = Some((tree, now));
        }
    }

    /// Any bytes may stand in the cache.
    #[test]
    fn any_cache_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..400), stats in any::<bool>()) {
        let folder = tempfile::tempdir().expect("folder");
        let (root, place) = (folder.path().join("data"), folder.path().join("p"));
        fs_err::create_dir_all(&root).expect("folder");
        fs_err::write(root.join("x"), "1").expect("written");
        let kind = if stats { &b"dynvis stats 1\n\0"[..] } else { b"dynvis files 1\n\0" };
        fs_err::write(&place, [kind, &bytes].concat()).expect("written");
        let expected = ContentHash::new(&blake3::hash(b"1"));
        let tree = observe(&root, &place);
        prop_assert_eq!(tree.listed().collect::<Vec<_>>(), [("x".to_owned(), expected)]);
        let _ = FileChanges::since(&place, &tree);
    }
}
