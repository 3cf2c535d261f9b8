//! Compression of HDF5 chunks beyond what the reader itself unpacks: zstd, bzip2 and LZF are read, others refused by
//! name.

use std::io::Read;

use hdf5_reader::error::Error;
use hdf5_reader::filters::FilterRegistry;

use dynvis_base::memory;

/// Filters that are known and not read, by their registered number.
const UNREAD: [(u16, &str); 15] = [
    (32001, "Blosc"),
    (32002, "MAFISC"),
    (32003, "Snappy"),
    (32008, "Bitshuffle"),
    (32010, "FPZip"),
    (32013, "ZFP"),
    (32014, "FPZip"),
    (32017, "SZ"),
    (32018, "FCIDECOMP"),
    (32019, "JPEG"),
    (32022, "BitGroom"),
    (32023, "Granular BitRound"),
    (32024, "SZ3"),
    (32026, "Blosc2"),
    (32028, "LERC"),
];

/// All filters that are read, and errors with names for those that are not.
pub(super) fn registry() -> FilterRegistry {
    let mut registry = FilterRegistry::new();
    registry.register(
        307,
        Box::new(|_, data, _| unpacked("bzip2", bzip2::read::MultiBzDecoder::new(data))),
    );
    registry.register(
        32015,
        Box::new(|_, data, _| {
            let decoder =
                zstd::stream::read::Decoder::new(data).map_err(|error| damaged("zstd", &error.to_string()))?;
            unpacked("zstd", decoder)
        }),
    );
    registry.register(
        32000,
        Box::new(|filter, data, _| {
            // The writer notes the size of an unpacked chunk as the third of its parameters.
            let size = filter.client_data.get(2).map_or(0, |size| *size as usize);
            lzf(data, size).map_err(|problem| damaged("LZF", problem))
        }),
    );
    for (number, name) in UNREAD {
        let refuse = move || {
            format!(
                "{name} (HDF5 filter {number}), which this program does not read; write the file with zlib, zstd or \
                 without compression (`h5repack -f GZIP=4 OLD NEW`, or xarray's `to_netcdf` with `encoding`)"
            )
        };
        registry.register(number, Box::new(move |_, _, _| Err(Error::UnsupportedFilter(refuse()))));
    }
    registry
}

fn damaged(filter: &str, problem: &str) -> Error {
    Error::DecompressionError(format!("{filter}: {problem}"))
}

/// A chunk whole; one that unpacks beyond memory is an error.
fn unpacked(filter: &str, stream: impl Read) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    memory::read_to_end(stream, hdf5_reader::HDF5_MAX_CHUNK_BYTES as u64, &mut out)
        .map_err(|error| damaged(filter, &error.to_string()))?;
    Ok(out)
}

/// Unpacks LZF: runs of literal bytes, and of bytes that stood up to 8 KiB before.
fn lzf(data: &[u8], size: usize) -> Result<Vec<u8>, &'static str> {
    const CUT: &str = "a chunk ends too early";
    let mut out = Vec::new();
    let mut data = data.iter().copied();
    while let Some(control) = data.next() {
        let control = usize::from(control);
        if control < 32 {
            for _ in 0..=control {
                out.push(data.next().ok_or(CUT)?);
            }
        } else {
            let mut length = control >> 5;
            if length == 7 {
                length += usize::from(data.next().ok_or(CUT)?);
            }
            let back = ((control & 31) << 8) + usize::from(data.next().ok_or(CUT)?) + 1;
            let from = out
                .len()
                .checked_sub(back)
                .ok_or("a chunk refers to what is before it")?;
            for place in from..from + length + 2 {
                out.push(out[place]);
            }
        }
        if size > 0 && out.len() > size {
            return Err("a chunk is longer than it says");
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lzf_repeats_what_stood_before() {
        // "ab", then 5 bytes from 2 back, then "c": ababababc less one.
        let packed = [1, b'a', b'b', 3 << 5, 1, 0, b'c'];
        assert_eq!(lzf(&packed, 8), Ok(b"abababac".to_vec()));
        // Length 7 + 1 + 2 of one byte.
        assert_eq!(lzf(&[0, b'x', 7 << 5, 1, 0], 11), Ok(vec![b'x'; 11]));
        assert!(lzf(&packed, 7).is_err() && lzf(&packed[..4], 8).is_err() && lzf(&[3 << 5, 9], 8).is_err());
    }

    #[test]
    fn filters_that_are_not_read_are_refused_by_name() {
        for (number, name) in UNREAD {
            let filter = hdf5_reader::messages::filter_pipeline::FilterDescription {
                id: number,
                name: None,
                client_data: Vec::new(),
            };
            let error = registry().apply(&filter, &[1, 2, 3], 1).expect_err("it is not read");
            let said = error.to_string();
            assert!(
                said.contains(name) && said.contains(&number.to_string()) && said.contains("h5repack"),
                "{said}"
            );
        }
    }
}
