//! A whole set: its files one after the other, and what archives hold.

use std::path::Path;

use super::catalogue::{Remote, Set, Unpacked};
use super::fetch::{Client, Event, FetchError, Tell, Wanted, fetch, room};
use super::part::remove_if_there;
use super::presence::{By, Record, RecordedArchive, State, presence};
use super::unpack::unpack;

/// Where a file is looked for: at the mirrors where there are any, else at its published addresses. In a mirror's
/// address `{set}` and `{file}` stand for names; without `{file}`, the file's name is put behind it.
pub(crate) fn addresses(set: &Set, file: &Remote, mirrors: &[String]) -> Vec<String> {
    let at_mirror = |mirror: &String| {
        let address = mirror.replace("{set}", set.name);
        match address.contains("{file}") || address.split(['/', '?']).any(|part| part == file.name) {
            true => address.replace("{file}", file.name),
            false => format!("{}/{}", address.trim_end_matches('/'), file.name),
        }
    };
    match mirrors {
        [] => file.addresses.iter().map(|&address| address.to_owned()).collect(),
        mirrors => mirrors.iter().map(at_mirror).collect(),
    }
}

/// Fetches what is missing of a set into the project's folder. False if nothing was.
///
/// # Errors
/// Those of [`fetch`]; an archive that cannot be unpacked.
pub(crate) fn get(
    client: &Client,
    set: &Set,
    root: &Path,
    mirrors: &[String],
    replaces: bool,
    tell: &mut Tell,
) -> Result<bool, FetchError> {
    let there = presence(set, root, By::Size).map_err(FetchError::disk("look for files"))?;
    if !replaces && there.state == State::Complete {
        return Ok(false);
    }
    let folder = root.join(set.folder);
    for file in set.files {
        let is_unpacked = || {
            let record = Record::read(&folder);
            let members = record.files_of(file.name).unwrap_or_default();
            let is_there = |path: &Path, bytes| fs_err::metadata(path).is_ok_and(|found| found.len() == bytes);
            let all = members
                .iter()
                .all(|member| is_there(&folder.join(&member.name), member.bytes));
            !members.is_empty() && all
        };
        if !replaces && file.unpacked.is_some() && is_unpacked() {
            continue;
        }
        let target = folder.join(file.name);
        let wanted = Wanted {
            target: &target,
            replaces,
            bytes: file.bytes,
            checksums: file.checksums,
            addresses: &addresses(set, file, mirrors),
        };
        fetch(client, &wanted, tell)?;
        if let Some(unpacked) = file.unpacked {
            unpack_and_remove(client, file.name, &target, unpacked, &folder, tell)?;
        }
    }
    Ok(true)
}

fn unpack_and_remove(
    client: &Client,
    name: &str,
    archive: &Path,
    unpacked: Unpacked,
    folder: &Path,
    tell: &mut Tell,
) -> Result<(), FetchError> {
    room(folder, unpacked.bytes)?;
    let mut progress = |done| {
        if client.is_interrupted() {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        tell(&Event::Unpacking {
            file: name,
            done,
            bytes: unpacked.bytes,
        });
        Ok(())
    };
    let files = unpack(archive, unpacked, folder, &mut progress).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => FetchError::Archive {
            file: archive.to_owned(),
            reason: error.to_string(),
        },
        _ => FetchError::disk(format!("unpack `{}`", archive.display()))(error),
    })?;
    let mut record = Record::read(folder);
    record.unpacked.retain(|other| other.archive != name);
    record.unpacked.push(RecordedArchive {
        archive: name.to_owned(),
        files,
    });
    record
        .write(folder)
        .map_err(FetchError::disk("record what was unpacked"))?;
    remove_if_there(archive).map_err(FetchError::disk("remove the archive"))
}
