use super::tar_members::BLOCK;
use super::*;

fn header(name: &str, kind: tar::EntryType, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn member(name: &str, kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, content.len() as u64);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
    bytes
}

fn opened(parts: &[Vec<u8>]) -> Result<Archive, DataError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.tar");
    std::fs::write(&path, [parts.concat(), vec![0; 1024]].concat()).expect("written");
    Archive::open(&path)
}

fn names(archive: &Archive) -> Vec<&str> {
    archive.members().iter().map(|member| &*member.name).collect()
}

#[test]
fn names_links_and_folders_of_every_dialect() {
    use tar::EntryType;
    let file = |name: &str| member(name, EntryType::Regular, b"x");
    let archive = opened(&[
        member("folder", EntryType::Directory, b""),
        file("./a//b"),
        file("/absolute"),
        member("x", EntryType::GNULongName, b"a long name\0"),
        file("short"),
        member("x", EntryType::XHeader, b"12 path=p/q\n13 comment=\n\n"),
        file("other"),
        member("link", EntryType::Symlink, b""),
        member("old/", EntryType::new(0), b""),
    ]);
    let archive = archive.expect("an archive");
    assert_eq!(names(&archive), ["a/b", "absolute", "a long name", "p/q"]);
    assert_eq!(archive.passed_over(), ["link"]);
    let place = archive.place(0).expect("it lies there");
    assert_eq!((place.offset, place.length), (3 * BLOCK - BLOCK, Some(1)));
}

#[test]
fn what_is_hostile_or_damaged_is_told_with_its_place() {
    use tar::EntryType;
    let file = |name: &str| member(name, EntryType::Regular, b"x");
    let mut changed = file("a");
    changed[3] = b'z';
    for (parts, what) in [
        (vec![file("a/../../b")], "`a/../../b` would lie outside"),
        (vec![file("a"), file("a")], "two members are called `a`"),
        (vec![file("a"), changed], "at byte 1024: the header's checksum is"),
        (
            vec![header("a", EntryType::Regular, 1 << 40)],
            "ends within its member `a`",
        ),
        (
            vec![header("a", EntryType::GNULongName, 1 << 40)],
            "ends within its member",
        ),
        (
            vec![member("x", EntryType::XHeader, b"99 path=p\n"), file("a")],
            "damaged attributes",
        ),
        (
            vec![member("x", EntryType::XHeader, b"22 GNU.sparse.major=1\n"), file("a")],
            "`a` is a sparse file",
        ),
        (vec![member("a", EntryType::GNUSparse, b"x")], "`a` is a sparse file"),
    ] {
        let error = opened(&parts).map(|_| ()).expect_err("refused").to_string();
        assert!(error.contains(what) && error.contains("a.tar"), "{what}: {error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (bytes, what) in [
        (b"no archive".to_vec(), "no tar, gzip or zip archive"),
        (file("a"), "without the zeros that mark its end"),
        (vec![b'x'; 4096], "no tar, gzip or zip archive"),
    ] {
        let path = folder.path().join("b.tar");
        std::fs::write(&path, bytes).expect("written");
        let error = Archive::open(&path).map(|_| ()).expect_err("refused").to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_tar_of_tars_is_one_archive() {
    use tar::EntryType;
    let inner = |names: &[&str]| {
        let files: Vec<Vec<u8>> = names
            .iter()
            .map(|name| member(name, EntryType::Regular, b"abc"))
            .collect();
        [files.concat(), vec![0; 1024]].concat()
    };
    let outer = [
        member("one.tar", EntryType::Regular, &inner(&["a", "b"])),
        member("two.tar", EntryType::Regular, &inner(&["a"])),
        member("notes", EntryType::Regular, b"x"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.tar");
    let mut bytes = [outer.concat(), vec![0; 1024]].concat();
    std::fs::write(&path, &bytes).expect("written");
    let archive = Archive::open(&path).and_then(Archive::flattened).expect("an archive");
    assert_eq!(names(&archive), ["one/a", "one/b", "two/a"]);
    assert_eq!(archive.read(2).expect("there"), b"abc");
    // Both inner archives at fault: both are named.
    bytes[512] ^= 1;
    let second = outer[0].len() + 512;
    bytes[second] ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    let opened = Archive::open(&path).and_then(Archive::flattened);
    let error = opened.map(|_| ()).expect_err("refused").to_string();
    assert!(error.contains("`one.tar`") && error.contains("`two.tar`"), "{error}");
}
