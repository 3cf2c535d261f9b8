//! What is shown: images on a canvas, alone, superposed or at places, and the course of a trial's pictures over time.
//!
//! Nothing here knows an image's pixels. A [`StimulusEncoder`](super::StimulusEncoder) turns scenes into features.

/// Places of a canvas: on a ring around its middle, counted anticlockwise from the right, or the whole canvas.
pub const PLACES: usize = 8;

/// One image within a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Item {
    /// Index in the image set.
    pub image: u32,
    /// Place of the image on the canvas, from 0; none for the whole canvas.
    pub place: Option<u8>,
}

/// What is to be seen at one time: items, added with equal contrast where they cover the whole canvas, under pixel
/// noise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Scene {
    /// Images that are visible together.
    pub items: Vec<Item>,
    /// Contrast of the items in thousandths: pixels lie at (1 - contrast) mean + contrast image.
    pub contrast: u16,
    /// Standard deviation of fresh noise at every step, in thousandths of the pixel range, and the name of its draws.
    pub noise: Option<(u16, u32)>,
}

impl Scene {
    /// One image on the whole canvas.
    pub fn image(image: u32) -> Self {
        Self::of(vec![Item { image, place: None }])
    }

    /// Images on the whole canvas, added with equal contrast.
    pub fn superposed(images: &[u32]) -> Self {
        Self::of(
            images
                .iter()
                .map(|image| Item {
                    image: *image,
                    place: None,
                })
                .collect(),
        )
    }

    /// A scene of images (index in the image set, place on the canvas).
    pub fn placed(items: &[(u32, usize)]) -> Self {
        let item = |(image, place): &(u32, usize)| Item {
            image: *image,
            place: Some((place % PLACES) as u8),
        };
        Self::of(items.iter().map(item).collect())
    }

    fn of(items: Vec<Item>) -> Self {
        Self {
            items,
            contrast: 1000,
            noise: None,
        }
    }
}

/// Scenes that follow one another without a pause in which the front-end returns to its spontaneous state: a scene or
/// nothing, and steps.
///
/// Clips are what responses are kept by: a lone image shown for a time is one clip, whatever the trial.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Clip(pub Vec<(Option<Scene>, usize)>);

impl Clip {
    /// Duration in Euler steps.
    pub fn steps(&self) -> usize {
        self.0.iter().map(|(_, steps)| steps).sum()
    }
}

/// A trial's pictures cut into clips: the step at which each begins, ascending. `settle` are the steps without input
/// after which the front-end counts as back at its spontaneous state.
pub fn clips(course: &[(Option<Scene>, usize)], settle: usize) -> Vec<(usize, Clip)> {
    let mut found: Vec<(usize, Clip)> = Vec::new();
    let (mut step, mut open) = (0, false);
    for (scene, steps) in course.iter().filter(|(_, steps)| *steps > 0) {
        match (scene, found.last_mut()) {
            (Some(_), Some((_, clip))) if open => extend(clip, scene, *steps),
            (Some(_), _) => found.push((step, Clip(vec![(scene.clone(), *steps)]))),
            (None, Some((_, clip))) if open => {
                let silent = match clip.0.last() {
                    Some((None, silent)) => *silent,
                    _ => 0,
                };
                open = silent + steps < settle;
                extend(clip, scene, (*steps).min(settle - silent.min(settle)));
            }
            (None, _) => {}
        }
        open = open || scene.is_some();
        step += steps;
    }
    // Steps of silence at an end that no scene follows say nothing: the decay is kept whole.
    for (_, clip) in &mut found {
        match clip.0.last_mut() {
            Some((None, silent)) => *silent = settle,
            _ => clip.0.push((None, settle)),
        }
    }
    found
}

/// Goes on with the same scene, or with another.
fn extend(clip: &mut Clip, scene: &Option<Scene>, steps: usize) {
    match clip.0.last_mut() {
        Some((last, held)) if last == scene => *held += steps,
        _ if steps > 0 => clip.0.push((scene.clone(), steps)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_end_where_the_front_end_has_come_to_rest() {
        let (a, b) = (Some(Scene::image(1)), Some(Scene::image(2)));
        let course = [(None, 5), (a.clone(), 3), (None, 10), (b.clone(), 3), (None, 2)];
        let expected = vec![
            (5, Clip(vec![(a.clone(), 3), (None, 4)])),
            (18, Clip(vec![(b.clone(), 3), (None, 4)])),
        ];
        assert_eq!(clips(&course, 4), expected);
        // A pause shorter than that keeps both in one, with the pause as it was.
        let short = [(a.clone(), 3), (None, 1), (None, 2), (b.clone(), 3)];
        let expected = vec![(0, Clip(vec![(a.clone(), 3), (None, 3), (b, 3), (None, 4)]))];
        assert_eq!(clips(&short, 4), expected);
        // The same scene in two epochs is one presentation.
        assert_eq!(
            clips(&[(a.clone(), 2), (a.clone(), 3)], 4),
            vec![(0, Clip(vec![(a, 5), (None, 4)]))]
        );
        assert!(clips(&[(None, 7)], 4).is_empty());
    }
}
