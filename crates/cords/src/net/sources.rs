//! What inlets read: images on their way from the input layer, and sums of sources from areas.

use super::connections::{Connections, Embedding};
use super::graph::{INPUT, Inlet, Way};
use crate::Real;
use crate::device::{Device, Maps};

impl<T: Real, D: Device<T>> Connections<T, D> {
    /// `inp` = average pool of the input convolution of the images, which is left in `convolved`.
    pub(crate) fn embed(
        &self,
        work: &mut D::Workspace,
        batch: usize,
        images: &D::Buffer,
        convolved: &mut D::Buffer,
        inp: &mut D::Buffer,
    ) {
        self.device
            .conv(work, self.filter(INPUT), batch, images, convolved, false);
        self.device.avg_pool(self.convolved_maps(batch), convolved, inp);
    }

    /// What `inp` becomes on its way to the inlets.
    pub(crate) fn spread(&self, work: &mut D::Workspace, batch: usize, seen: &mut Embedding<D::Buffer>) {
        let Embedding { inp, read } = seen;
        for (area, read) in read.iter_mut().enumerate() {
            for (inlet, x) in self.architecture.inlets(area).iter().zip(read) {
                if self.image_source_maps(inlet, batch).is_none() {
                    continue;
                }
                for (index, way) in inlet.image.iter().enumerate() {
                    let maps = [self.architecture.inp_maps(batch), inlet.reads.with_batch(batch)];
                    self.bring(work, *way, maps, inp, x, index > 0);
                }
            }
        }
    }

    /// x = a source on its way to an inlet, or x += where `accumulate`; maps are the source's and
    /// those of x.
    pub(crate) fn bring(
        &self,
        work: &mut D::Workspace,
        way: Way,
        [from, to]: [Maps; 2],
        source: &D::Buffer,
        x: &mut D::Buffer,
        accumulate: bool,
    ) {
        match way {
            Way::Conv(conv) => self
                .device
                .conv(work, self.filter(conv), from.batch, source, x, accumulate),
            Way::Upsampled(interpolation) => {
                self.device
                    .upsample(from, (to.side, interpolation), source, x, accumulate)
            }
            Way::Direct if accumulate => self.device.add(source, x),
            Way::Direct => self.device.copy(source, x),
        }
    }

    /// Transpose of a source's way to an inlet: dsource = it applied to dx, or dsource += where `accumulate`.
    pub(crate) fn bring_back(
        &self,
        work: &mut D::Workspace,
        way: Way,
        [from, to]: [Maps; 2],
        dx: &D::Buffer,
        dsource: &mut D::Buffer,
        accumulate: bool,
    ) {
        let device = &self.device;
        match way {
            Way::Conv(conv) => device.conv_transpose(work, self.filter(conv), from.batch, dx, dsource, accumulate),
            Way::Upsampled(interpolation) => {
                device.upsample_transpose(from, (to.side, interpolation), dx, dsource, accumulate);
            }
            Way::Direct if accumulate => device.add(dx, dsource),
            Way::Direct => device.copy(dx, dsource),
        }
    }

    /// The constant part of every area's current: its bias, and what images give to it. `None` is a blank input.
    pub(crate) fn constant_current(
        &self,
        work: &mut D::Workspace,
        batch: usize,
        seen: Option<&Embedding<D::Buffer>>,
        out: &mut [D::Buffer],
    ) {
        for (area, out) in out.iter_mut().enumerate() {
            self.device.broadcast(self.maps(area, batch), &self.biases[area], out);
            let Some(seen) = seen else { continue };
            for (number, inlet) in self.architecture.inlets(area).iter().enumerate() {
                if !inlet.image.is_empty() {
                    let x = seen.read_by(area, number, inlet);
                    self.device.conv(work, self.filter(inlet.conv), batch, x, out, true);
                }
            }
        }
    }

    /// max(r, 0) of an area: the activity itself where it is not negative, else what is written to `rectified`.
    pub(crate) fn positive<'a>(&self, activity: &'a D::Buffer, rectified: &'a mut D::Buffer) -> &'a D::Buffer {
        if self.non_negative() {
            return activity;
        }
        self.device.rectify(activity, rectified);
        rectified
    }

    /// The sum of an inlet's sources from areas, written to `x`.
    pub(crate) fn read_source(
        &self,
        work: &mut D::Workspace,
        rectified: &mut [D::Buffer],
        inlet: &Inlet,
        batch: usize,
        activity: &[D::Buffer],
        x: &mut D::Buffer,
    ) {
        if self.sums_operands(inlet) {
            return self.sum_sources(work, rectified, inlet, batch, activity, x);
        }
        for (index, (area, way)) in inlet.areas.iter().copied().enumerate() {
            let r = &activity[area];
            match (way, index > 0) {
                (Way::Direct, false) => self.device.rectify(r, x),
                (Way::Direct, true) => self.device.add_rectified(r, x),
                (_, accumulate) => {
                    let source = self.positive(r, &mut rectified[area]);
                    let maps = [self.maps(area, batch), inlet.reads.with_batch(batch)];
                    self.bring(work, way, maps, source, x, accumulate);
                }
            }
        }
    }

    /// The same where no source is enlarged.
    fn sum_sources(
        &self,
        work: &mut D::Workspace,
        rectified: &mut [D::Buffer],
        inlet: &Inlet,
        batch: usize,
        activity: &[D::Buffer],
        x: &mut D::Buffer,
    ) {
        let convs = inlet.areas.iter().filter_map(|(area, way)| match way {
            Way::Conv(conv) => Some((*area, *conv)),
            _ => None,
        });
        for (area, _) in convs.clone() {
            self.positive(&activity[area], &mut rectified[area]);
        }
        let read = |area: usize| {
            if self.non_negative() {
                &activity[area]
            } else {
                &rectified[area]
            }
        };
        let convolved: Vec<_> = convs.map(|(area, conv)| (self.filter(conv), read(area))).collect();
        let direct = inlet.areas.iter().filter(|(_, way)| *way == Way::Direct);
        let directly: Vec<_> = direct.map(|(area, _)| &activity[*area]).collect();
        self.device.sum_rectified(work, &convolved, &directly, batch, x);
    }
}
