//! Images that are loaded and augmented while those before them are at work.
//!
//! Loading takes place on rayon's pool, which the processor computes on too: where it is the device, loading and
//! computing share its threads and neither waits while there is work of the other; where the device is another, all
//! threads load. One request is loaded at a time, beside the one at work, and their memory is used again: never is
//! there more than that of two.

use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::data::{DataError, Images, fill_images};
use crate::device::{Device, Peers, Target};
use crate::rng::{Purpose, Stream};

/// The batches of a training. The order of the images depends on the seed and the epoch alone.
pub(crate) struct Batches {
    /// Images of the set.
    pub(crate) images: usize,
    pub(crate) seed: u64,
    pub(crate) epochs: usize,
    /// Batches of an epoch.
    pub(crate) batches: usize,
    /// Whether images of a batch are mixed with each other, where the set says so.
    pub(crate) mixes: bool,
    /// Which part of every batch is asked for.
    pub(crate) peers: Peers,
}

/// Images that are loaded together.
pub(crate) struct Request {
    /// Indices of the images in their set.
    images: Vec<u32>,
    /// Epoch, from 0, of what is random about them.
    epoch: u32,
    /// Which batch of the epoch they are, where they may be mixed with each other.
    mixes: Option<u32>,
    /// Whether the last image is there for the first one to be mixed with, as it comes before that in the batch.
    closes: bool,
    /// Images of the batch.
    whole: usize,
}

/// What was requested.
pub(crate) struct Prepared {
    /// Normalised images, `[targets.len(), channels, side, side]`.
    pub(crate) images: Vec<f32>,
    /// What each is to be answered with.
    pub(crate) targets: Vec<Target>,
    /// Images of the batch that they are of.
    pub(crate) whole: usize,
    spare: Spare,
}

/// Memory of images that are no longer at work.
type Spare = Arc<Mutex<Vec<Vec<f32>>>>;

impl Drop for Prepared {
    fn drop(&mut self) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push(std::mem::take(&mut self.images));
    }
}

impl Batches {
    /// All batches from one of an epoch on: `(epoch, batch)`.
    pub(crate) fn requests(&self, (epoch, batch): (usize, usize)) -> impl Iterator<Item = Request> + Clone + Send {
        (epoch..self.epochs).flat_map(move |now| {
            let order = self.order(now);
            let start = if now == epoch { batch } else { 0 };
            (start..self.batches).map(move |batch| {
                let [first, end] = [batch, batch + 1].map(|batch| batch * order.len() / self.batches);
                let (whole, part) = (&order[first..end], self.peers.part(end - first));
                let closes = self.mixes && !part.is_empty() && part.len() < whole.len();
                let before = whole[(part.start + whole.len() - 1) % whole.len()];
                Request {
                    images: whole[part].iter().copied().chain(closes.then_some(before)).collect(),
                    epoch: now as u32,
                    mixes: self.mixes.then_some(batch as u32),
                    closes,
                    whole: whole.len(),
                }
            })
        })
    }

    fn order(&self, epoch: usize) -> Vec<u32> {
        Stream::new(self.seed, Purpose::Shuffle, 0, 0, epoch as u32, 0).permutation(self.images)
    }
}

/// Does `work`, which is given what the next request asks for whenever it asks; it must not ask more often than there
/// are requests. Where the system gives no thread, images are loaded when they are asked for.
///
/// Where an image cannot be read, the error of the first such image of a request is given, and nothing after it.
pub(crate) fn load_ahead<R>(
    images: &dyn Images,
    requests: impl Iterator<Item = Request> + Clone + Send,
    work: impl FnOnce(&mut dyn FnMut() -> Result<Prepared, DataError>) -> R,
) -> R {
    let spare = Spare::default();
    // Nothing is stored in the channel: who sends waits until it is taken.
    let (sender, receiver) = sync_channel(0);
    std::thread::scope(|scope| {
        let (later, memory) = (requests.clone(), &spare);
        let loading = std::thread::Builder::new().spawn_scoped(scope, move || {
            for request in later {
                let loaded = load(images, &request, memory);
                let failed = loaded.is_err();
                // Nobody listens any more where the work has ended.
                if sender.send(loaded).is_err() || failed {
                    return;
                }
            }
        });
        let Ok(loader) = loading else {
            let mut requests = requests;
            return work(&mut || load(images, &requests.next().expect("a request for every batch"), &spare));
        };
        let mut loader = Some(loader);
        let mut next = || {
            receive(&receiver).unwrap_or_else(|_| {
                match loader.take().map(|loader| loader.join()) {
                    // Reading images has panicked.
                    Some(Err(panic)) => std::panic::resume_unwind(panic),
                    _ => unreachable!("more was asked for than requested, or after an error"),
                }
            })
        };
        let result = work(&mut next);
        drop(receiver);
        result
    })
}

/// Waits for what is sent. A thread of the pool does the pool's work meanwhile: if all of them only waited, nothing
/// would be loaded.
fn receive<T>(receiver: &Receiver<T>) -> Result<T, RecvError> {
    loop {
        match (receiver.try_recv(), rayon::current_thread_index()) {
            (Ok(value), _) => return Ok(value),
            (Err(TryRecvError::Disconnected), _) => return Err(RecvError),
            (Err(TryRecvError::Empty), None) => return receiver.recv(),
            (Err(TryRecvError::Empty), Some(_)) => {}
        }
        if let Some(rayon::Yield::Executed) = rayon::yield_now() {
            continue;
        }
        match receiver.recv_timeout(Duration::from_millis(1)) {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn load(images: &dyn Images, request: &Request, spare: &Spare) -> Result<Prepared, DataError> {
    let len = images.channels() * images.side() * images.side();
    let memory = spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut prepared = Prepared {
        images: memory.unwrap_or_default(),
        targets: Vec::new(),
        whole: request.whole,
        spare: Arc::clone(spare),
    };
    prepared.images.resize(request.images.len() * len, 0.0);
    fill_images(&request.images, &mut prepared.images, |image, out| {
        images.fill(image as usize, request.epoch, out)
    })?;
    let labels = request.images.iter().map(|image| images.label(*image as usize));
    let labels: Vec<u32> = labels.collect();
    let mixes = request.mixes.filter(|_| !labels.is_empty());
    let weight = mixes.and_then(|batch| images.mix(request.epoch, batch, &mut prepared.images));
    prepared.targets = match weight {
        None => Target::of(&labels),
        Some(weight) => Target::of_mixed(&labels, weight),
    };
    if request.closes {
        prepared.targets.pop();
        prepared.images.truncate(prepared.targets.len() * len);
    }
    Ok(prepared)
}

/// Goes through all images in groups of the device, which are side by side where the device can, and loaded while those
/// before them are at work. `task` is given the normalised images of a group and their targets; what it gives is kept
/// in the order of groups. `values` are those that an image takes on the device, as
/// [`groups_in_flight`](Device::groups_in_flight) wants to know.
///
/// # Errors
/// That of the first image that cannot be read.
pub(crate) fn for_each_group<D: Device<f32>, R: Send>(
    device: &D,
    values: usize,
    images: &dyn Images,
    task: impl Fn(&[f32], &[Target]) -> R + Send + Sync,
    mut keep: impl FnMut(R),
) -> Result<(), DataError> {
    let size = device.group_images();
    let wave = size * device.groups_in_flight(values).max(1);
    let len = images.channels() * images.side() * images.side();
    let firsts = (0..images.len()).step_by(wave);
    let requests = firsts.clone().map(|first| Request {
        images: (first..images.len().min(first + wave))
            .map(|image| image as u32)
            .collect(),
        epoch: 0,
        mixes: None,
        closes: false,
        whole: images.len(),
    });
    load_ahead(images, requests, |next| {
        for _ in firsts {
            let prepared = next()?;
            let groups = prepared.images.chunks(size * len).zip(prepared.targets.chunks(size));
            let mut groups: Vec<_> = groups.map(|group| (group, None)).collect();
            device.for_each(&mut groups, |_, ((images, targets), result)| {
                *result = Some(task(images, targets));
            });
            groups.into_iter().filter_map(|(_, result)| result).for_each(&mut keep);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;
    use crate::device::Cpu;

    /// Images that hold their number and their epoch.
    struct Numbered(usize);

    impl Images for Numbered {
        fn len(&self) -> usize {
            self.0
        }
        fn channels(&self) -> usize {
            2
        }
        fn side(&self) -> usize {
            1
        }
        fn classes(&self) -> usize {
            10
        }
        fn label(&self, i: usize) -> u32 {
            i as u32
        }
        fn fill(&self, i: usize, epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
            out.copy_from_slice(&[i as f32, epoch as f32]);
            Ok(())
        }
        /// The third batch of every epoch.
        fn mix(&self, _epoch: u32, batch: u32, _images: &mut [f32]) -> Option<f32> {
            (batch == 2).then_some(0.5)
        }
    }

    #[test]
    fn every_image_comes_once_in_an_epoch_and_a_course_is_taken_up_anywhere() {
        let batches = Batches {
            images: 10,
            seed: 3,
            epochs: 2,
            batches: 4,
            mixes: true,
            peers: Peers::ALONE,
        };
        // Images and the labels of each and of its partner, batch by batch.
        let take = |first, count: usize| {
            let one = |prepared: Prepared| {
                let labels = |target: &Target| [target.label, target.partner];
                (
                    prepared.images.clone(),
                    prepared.targets.iter().map(labels).collect::<Vec<_>>(),
                )
            };
            let take = |next: &mut dyn FnMut() -> Result<Prepared, DataError>| {
                let taken = (0..count).map(|_| next().map(one));
                taken.collect::<Result<Vec<_>, _>>()
            };
            load_ahead(&Numbered(10), batches.requests(first), take).expect("sound images")
        };
        let all = take((0, 0), 8);
        for (epoch, part) in all.chunks(4).enumerate() {
            let mut seen: Vec<u32> = part.iter().flat_map(|(_, labels)| labels).map(|both| both[0]).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..10).collect::<Vec<_>>());
            for (batch, (images, labels)) in part.iter().enumerate() {
                for (i, (image, [label, partner])) in images.chunks(2).zip(labels).enumerate() {
                    assert_eq!(image, [*label as f32, epoch as f32]);
                    let before = labels[(i + labels.len() - 1) % labels.len()][0];
                    assert_eq!(*partner, if batch == 2 { before } else { *label });
                }
            }
        }
        // Whoever stops early leaves nothing behind that waits.
        assert_eq!(take((0, 3), 2), all[3..5]);
    }

    /// Some ranks have no image of a batch; the first of each is mixed with the last of the one before.
    #[test]
    fn parts_of_a_batch_are_the_batch() {
        let batches = |peers| Batches {
            images: 11,
            seed: 3,
            epochs: 1,
            batches: 4,
            mixes: true,
            peers,
        };
        // Images and targets, batch by batch.
        let take = |peers| {
            let one = |prepared: Prepared| {
                let (images, targets) = (prepared.images.clone(), prepared.targets.clone());
                ((images, targets), prepared.whole)
            };
            let take = |next: &mut dyn FnMut() -> Result<Prepared, DataError>| {
                let taken = (0..4).map(|_| next().map(one));
                taken.collect::<Result<Vec<_>, _>>()
            };
            load_ahead(&Numbered(11), batches(peers).requests((0, 0)), take).expect("sound images")
        };
        let whole = take(Peers::ALONE);
        for world in 2..6 {
            let mut joined = vec![(Vec::new(), Vec::new()); 4];
            for rank in 0..world {
                let parts = take(Peers { rank, world });
                for ((sum, (part, size)), (_, expected)) in joined.iter_mut().zip(parts).zip(&whole) {
                    sum.0.extend(part.0);
                    sum.1.extend(part.1);
                    assert_eq!(size, *expected);
                }
            }
            assert!(joined.iter().eq(whole.iter().map(|(batch, _)| batch)), "{world}");
        }
        let sizes: Vec<usize> = whole.iter().map(|(_, size)| *size).collect();
        assert_eq!(sizes, [2, 3, 3, 3]);
    }

    /// Side by side in one pool, and more of them than it has threads.
    #[test]
    fn who_waits_for_images_in_a_pool_does_not_keep_them_from_being_loaded() {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .expect("a thread");
        pool.install(|| {
            (0..3).into_par_iter().with_max_len(1).for_each(|_| {
                let mut seen = Vec::new();
                let labels = |_: &[f32], targets: &[Target]| targets.iter().map(|target| target.label).collect();
                let keep = |group: Vec<u32>| seen.extend(group);
                for_each_group::<Cpu, _>(&Cpu, 1, &Numbered(30), labels, keep).expect("sound images");
                assert_eq!(seen, (0..30).collect::<Vec<_>>());
            });
        });
        (0..2 * rayon::current_num_threads())
            .into_par_iter()
            .with_max_len(1)
            .for_each(|_| for_each_group(&Cpu, 1, &Numbered(30), |_, _| (), |()| ()).expect("sound images"));
    }
}
