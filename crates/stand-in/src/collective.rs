//! Processes that compute together, over sockets: rank 0 collects what the others have, in the order of ranks, and sends
//! results back. Where one is gone, all others are told so by their sockets.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use crate::counts::violation;

/// How long ranks wait for each other to begin.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all ranks ask for at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    AllReduce,
    Broadcast { root: u32 },
    AllGather,
    ReduceScatter,
}

/// How values of ranks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Sum,
    Product,
    Largest,
    Least,
    Mean,
}

/// Types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int8,
    Uint8,
    Int32,
    Uint32,
    Int64,
    Uint64,
    Float32,
    Float64,
    Bfloat16,
}

impl Kind {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Int8 | Self::Uint8 => 1,
            Self::Bfloat16 => 2,
            Self::Int32 | Self::Uint32 | Self::Float32 => 4,
            Self::Int64 | Self::Uint64 | Self::Float64 => 8,
        }
    }
}

/// One rank's place among all.
pub(crate) struct Communicator {
    pub(crate) rank: usize,
    pub(crate) ranks: usize,
    /// Of rank 0 to all others, in their order; of others to rank 0.
    peers: Vec<UnixStream>,
    /// One operation at a time.
    one: Mutex<()>,
    /// The first status that is no success, as NCCL numbers it.
    error: AtomicI32,
}

fn failed(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}

impl Communicator {
    /// Waits until all ranks are there. `gpu` is the number of this rank's GPU among all of the machine.
    pub(crate) fn new(place: &Path, rank: usize, ranks: usize, gpu: usize) -> io::Result<Self> {
        let until = Instant::now() + PATIENCE;
        let peers = match rank {
            0 => gather(place, ranks, gpu, until)?,
            _ => vec![join(place, [rank, ranks, gpu], until)?],
        };
        Ok(Self {
            rank,
            ranks,
            peers,
            one: Mutex::new(()),
            error: AtomicI32::new(0),
        })
    }

    pub(crate) fn error(&self) -> i32 {
        self.error.load(Ordering::SeqCst)
    }

    /// Keeps the first error.
    pub(crate) fn fail(&self, status: i32) {
        let _ = self
            .error
            .compare_exchange(0, status, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Breaks off whatever this rank or another one waits for.
    pub(crate) fn abort(&self) {
        for peer in &self.peers {
            // One that is closed is what is wanted.
            let _ = peer.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Does an operation on so many bytes: what this rank gives, and what becomes of it here.
    pub(crate) fn run(
        &self,
        operation: Operation,
        kind: Kind,
        reduction: Reduction,
        mine: &[u8],
    ) -> io::Result<Vec<u8>> {
        let _one = self.one.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let header = format!("{operation:?} {kind:?} {reduction:?} {}", mine.len());
        if self.rank > 0 {
            send(&self.peers[0], header.as_bytes())?;
            send(&self.peers[0], mine)?;
            return receive(&self.peers[0]);
        }
        let mut all = vec![mine.to_vec()];
        for (i, peer) in self.peers.iter().enumerate() {
            let theirs = receive(peer)?;
            if theirs != header.as_bytes() {
                let theirs = String::from_utf8_lossy(&theirs).into_owned();
                violation(format!("NCCL: rank 0 asks for {header}, rank {} for {theirs}", i + 1));
                return Err(failed("ranks ask for different things"));
            }
            all.push(receive(peer)?);
        }
        let results = results(operation, kind, reduction, &all);
        for (peer, result) in self.peers.iter().zip(&results[1..]) {
            send(peer, result)?;
        }
        Ok(results.into_iter().next().unwrap_or_default())
    }
}

/// Rank 0 waits for all others.
fn gather(place: &Path, ranks: usize, gpu: usize, until: Instant) -> io::Result<Vec<UnixStream>> {
    let listener = UnixListener::bind(place)?;
    listener.set_nonblocking(true)?;
    let mut peers: Vec<Option<UnixStream>> = (1..ranks).map(|_| None).collect();
    let mut gpus = vec![gpu];
    let mut fault = None;
    while fault.is_none() && peers.iter().any(Option::is_none) {
        let peer = match listener.accept() {
            Ok((peer, _)) => peer,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            Err(error) => return Err(error),
        };
        peer.set_nonblocking(false)?;
        let hello = receive(&peer)?;
        let numbers: Vec<usize> = hello
            .chunks_exact(8)
            .filter_map(|n| Some(u64::from_le_bytes(n.try_into().ok()?) as usize))
            .collect();
        let [rank, their_ranks, gpu] = numbers[..] else {
            return Err(failed("a rank says nothing of itself"));
        };
        if their_ranks != ranks || rank == 0 || rank >= ranks || peers[rank - 1].is_some() {
            fault = Some(format!(
                "NCCL: rank {rank} of {their_ranks}, among {ranks} of which each is there once"
            ));
        } else if gpus.contains(&gpu) {
            fault = Some(format!("NCCL: two ranks use GPU {gpu}"));
        }
        gpus.push(gpu);
        if let Some(place) = peers.get_mut(rank.wrapping_sub(1)) {
            *place = Some(peer);
        }
    }
    // Nobody else looks for it.
    let _ = std::fs::remove_file(place);
    let peers: Vec<UnixStream> = peers.into_iter().flatten().collect();
    match fault {
        // The others find their sockets closed.
        Some(fault) => {
            violation(fault.clone());
            Err(failed(fault))
        }
        None => {
            peers.iter().try_for_each(|peer| send(peer, b"all are there"))?;
            Ok(peers)
        }
    }
}

/// Another rank says who it is, and waits until all are there.
fn join(place: &Path, hello: [usize; 3], until: Instant) -> io::Result<UnixStream> {
    let peer = loop {
        match UnixStream::connect(place) {
            Ok(peer) => break peer,
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let hello: Vec<u8> = hello.iter().flat_map(|number| (*number as u64).to_le_bytes()).collect();
    send(&peer, &hello)?;
    receive(&peer)?;
    Ok(peer)
}

fn send(mut peer: &UnixStream, bytes: &[u8]) -> io::Result<()> {
    peer.write_all(&(bytes.len() as u64).to_le_bytes())?;
    peer.write_all(bytes)
}

fn receive(mut peer: &UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    peer.read_exact(&mut length)?;
    let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
    peer.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What each rank gets, from what each has given.
fn results(operation: Operation, kind: Kind, reduction: Reduction, all: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let ranks = all.len();
    match operation {
        Operation::AllReduce => vec![reduced(kind, reduction, all); ranks],
        Operation::Broadcast { root } => vec![all.get(root as usize).cloned().unwrap_or_default(); ranks],
        Operation::AllGather => vec![all.concat(); ranks],
        Operation::ReduceScatter => {
            let whole = reduced(kind, reduction, all);
            let part = whole.len() / ranks;
            whole.chunks(part.max(1)).take(ranks).map(<[u8]>::to_vec).collect()
        }
    }
}

/// Values of all ranks, taken together from rank 0 on.
fn reduced(kind: Kind, reduction: Reduction, all: &[Vec<u8>]) -> Vec<u8> {
    macro_rules! of {
        ($kind:ty, $one:expr) => {{
            const SIZE: usize = size_of::<$kind>();
            let value = |bytes: &[u8]| bytes.try_into().map(<$kind>::from_le_bytes).unwrap_or_default();
            let mut sums: Vec<$kind> = all[0].chunks_exact(SIZE).map(value).collect();
            for other in &all[1..] {
                for (sum, bytes) in sums.iter_mut().zip(other.chunks_exact(SIZE)) {
                    *sum = $one(*sum, value(bytes), reduction);
                }
            }
            if reduction == Reduction::Mean {
                sums.iter_mut().for_each(|sum| *sum /= all.len() as $kind);
            }
            sums.iter().flat_map(|sum| sum.to_le_bytes()).collect()
        }};
    }
    macro_rules! whole {
        ($kind:ty) => {{
            let one = |a: $kind, b: $kind, reduction| match reduction {
                Reduction::Sum | Reduction::Mean => a.wrapping_add(b),
                Reduction::Product => a.wrapping_mul(b),
                Reduction::Largest => a.max(b),
                Reduction::Least => a.min(b),
            };
            of!($kind, one)
        }};
    }
    macro_rules! real {
        ($kind:ty) => {{
            let one = |a: $kind, b: $kind, reduction| match reduction {
                Reduction::Sum | Reduction::Mean => a + b,
                Reduction::Product => a * b,
                Reduction::Largest => a.max(b),
                Reduction::Least => a.min(b),
            };
            of!($kind, one)
        }};
    }
    match kind {
        Kind::Int8 => whole!(i8),
        Kind::Uint8 => whole!(u8),
        Kind::Int32 => whole!(i32),
        Kind::Uint32 => whole!(u32),
        Kind::Int64 => whole!(i64),
        Kind::Uint64 => whole!(u64),
        Kind::Float32 => real!(f32),
        Kind::Float64 => real!(f64),
        Kind::Bfloat16 => {
            // Sums are taken in single precision and rounded once.
            let wide = |bytes: &[u8]| f32::from_le_bytes([0, 0, bytes[0], bytes[1]]);
            let all: Vec<Vec<u8>> = all
                .iter()
                .map(|values| {
                    values
                        .chunks_exact(2)
                        .flat_map(|pair| wide(pair).to_le_bytes())
                        .collect()
                })
                .collect();
            let sums = reduced(Kind::Float32, reduction, &all);
            let sums = sums
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            sums.flat_map(|sum| crate::cudnn::narrowed(sum).to_le_bytes()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn sums_go_from_rank_0_on() {
        // In any other order the small one is lost or kept.
        let all = [bytes(&[1e8, 1.0]), bytes(&[-1e8, 2.0]), bytes(&[1.0, 6.0])];
        let results = results(Operation::AllReduce, Kind::Float32, Reduction::Sum, &all);
        assert_eq!(results, vec![bytes(&[1.0, 9.0]); 3]);
        let mean = reduced(Kind::Float32, Reduction::Mean, &all);
        assert_eq!(mean[4..], bytes(&[3.0]));
        assert_eq!(
            reduced(Kind::Bfloat16, Reduction::Sum, &[vec![0x80, 0x3F], vec![0x00, 0x40]]),
            [0x40, 0x40]
        );
    }

    /// Ranks as threads: all get the sum, and where one leaves, the others fail instead of waiting.
    #[test]
    fn a_rank_that_is_gone_is_an_error_for_the_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("socket");
        let run = |rank: usize| {
            let place = place.clone();
            std::thread::spawn(move || {
                let all = Communicator::new(&place, rank, 3, rank).expect("all are there");
                let mine = bytes(&[rank as f32]);
                let sum = all
                    .run(Operation::AllReduce, Kind::Float32, Reduction::Sum, &mine)
                    .expect("all take part");
                assert_eq!(sum, bytes(&[3.0]));
                let from = Operation::Broadcast { root: 2 };
                let told = all
                    .run(from, Kind::Float32, Reduction::Sum, &mine)
                    .expect("all take part");
                assert_eq!(told, bytes(&[2.0]));
                if rank == 1 {
                    return true;
                }
                all.run(Operation::AllReduce, Kind::Float32, Reduction::Sum, &mine)
                    .is_err()
            })
        };
        let threads: Vec<_> = (0..3).map(run).collect();
        assert!(threads.into_iter().all(|thread| thread.join().expect("no panic")));
    }

    #[test]
    fn two_ranks_on_one_gpu_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("socket");
        let other = place.clone();
        let thread = std::thread::spawn(move || Communicator::new(&other, 1, 2, 0).is_err());
        assert!(Communicator::new(&place, 0, 2, 0).is_err());
        assert!(thread.join().expect("no panic"));
    }
}
