//! The kernel interface on a GPU, kernel by kernel.

use std::sync::Arc;

use super::gpu::{Argument, Gpu};
use super::memory::{Buffer, Cuda, Operand, same};
use super::packed::{self, Packed};
use super::products::{self, Filter, Workspace};
use super::reductions::{CELLS, Fold, PARTS, Reductions};
use super::weight_sums::WeightSum;
use super::{Capture, Pass, ROW_PARTS};
use crate::device::{
    AdamStep, Adjoint, ConvShape, Device, DeviceError, Interpolation, Maps, NormalNoise, Peers, Phi, Relaxation,
    Target, relaxation,
};
use crate::rng::Stream;

impl<G: Gpu> Device<f32> for Cuda<G> {
    type Buffer = Buffer<G::Memory>;
    type Filter = Filter<G::Memory>;
    type WeightSum = WeightSum<G::Memory>;
    type Workspace = Workspace<G::Memory>;
    type Reductions = Reductions<G::Memory>;
    type Capture = Capture<G::Graph>;
    type Packed = Packed<G::Memory>;

    fn check(&self) -> Result<(), DeviceError> {
        self.failure().clone().map_or(Ok(()), Err)
    }

    fn group_images(&self) -> usize {
        self.group_images
    }

    fn peers(&self) -> Peers {
        self.gpu.peers()
    }

    fn sum_over_peers(&self, buffers: &mut [&mut Self::Buffer], numbers: &mut [f64]) {
        self.sum_of_all(buffers, numbers);
    }

    fn spare_bytes(&self) -> u64 {
        // Reductions of trials of two sizes and of the gradient's norm, with their parts.
        (3 * (CELLS + PARTS) * size_of::<f64>()) as u64
    }

    fn repeat(
        &self,
        capture: &mut Capture<G::Graph>,
        reductions: &mut Reductions<G::Memory>,
        work: impl FnMut(&mut Reductions<G::Memory>),
    ) {
        self.do_again(capture, reductions, work);
    }

    fn zeros(&self, len: usize) -> Self::Buffer {
        self.room_f32(len)
    }

    fn zeros_maps(&self, maps: Maps) -> Self::Buffer {
        self.room_f32(maps.len())
    }

    fn zeros_relaxed(&self, maps: Maps) -> Self::Buffer {
        let mut activity = self.room_f32(maps.len());
        if self.keeps_operands(maps)
            && let Some(values) = self.take_memory(self.operand_bytes(maps) as usize)
        {
            activity.lend(Operand::new(Arc::new(values), None));
        }
        activity
    }

    fn zeros_operand(&self, maps: Maps) -> Self::Buffer {
        match self.keeps_operands(maps) {
            true => self.operand_room(maps.len()),
            false => self.room_f32(maps.len()),
        }
    }

    fn operand_bytes(&self, maps: Maps) -> u64 {
        let size = if self.keeps_operands(maps) {
            size_of::<u16>()
        } else {
            size_of::<f32>()
        };
        (maps.len() * size) as u64
    }

    fn gathers(&self, maps: Maps, parts: usize) -> Option<usize> {
        (self.keeps_operands(maps) && parts <= products::TERMS).then_some(packed::DELTAS)
    }

    fn sum_rectified(
        &self,
        work: &mut Self::Workspace,
        convolved: &[(&Self::Filter, &Self::Buffer)],
        rectified: &[&Self::Buffer],
        batch: usize,
        x: &mut Self::Buffer,
    ) {
        self.sum_of_rectified(work, convolved, rectified, batch, x);
    }

    fn upload(&self, host: &[f32]) -> Self::Buffer {
        self.uploaded(host)
    }

    fn duplicate(&self, buffer: &Self::Buffer) -> Self::Buffer {
        let mut copy = self.room_f32(buffer.len);
        self.copy(buffer, &mut copy);
        copy
    }

    fn download(&self, buffer: &Self::Buffer) -> Vec<f32> {
        self.fetched(buffer)
    }

    fn upload_maps(&self, maps: Maps, host: &[f32], out: &mut Self::Buffer) {
        assert_eq!(host.len(), maps.len());
        let uploaded = self.uploaded(host);
        if out.is_operand() {
            let mut exchanged = self.room_f32(out.len);
            self.exchange(maps.channels, maps.plane(), &uploaded, &mut exchanged);
            return self.fill_operand(&exchanged, out);
        }
        self.exchange(maps.channels, maps.plane(), &uploaded, out);
    }

    fn download_maps(&self, maps: Maps, buffer: &Self::Buffer, out: &mut [f32]) {
        let mut exchanged = self.room_f32(same([buffer.len, maps.len(), out.len()]));
        let mut widened;
        let buffer = if buffer.is_whole() {
            buffer
        } else {
            widened = self.room_f32(buffer.len);
            self.widen(buffer, &mut widened);
            &widened
        };
        self.exchange(maps.plane(), maps.channels, buffer, &mut exchanged);
        out.copy_from_slice(&self.fetched::<f32>(&exchanged));
    }

    fn clear(&self, x: &mut Self::Buffer) {
        let bytes = x.len * size_of::<f32>();
        if let Some(memory) = x.overwritten() {
            self.attempt(|gpu| gpu.clear(memory, bytes));
        }
    }

    fn copy(&self, x: &Self::Buffer, y: &mut Self::Buffer) {
        let len = same([x.len, y.len]);
        if let (Some(x), Some(y)) = (x.memory(), y.overwritten()) {
            self.attempt(|gpu| gpu.copy(x, y, 0, len * size_of::<f32>()));
        }
    }

    fn add(&self, x: &Self::Buffer, y: &mut Self::Buffer) {
        if x.is_operand() {
            return self.add_operand(x, None, y);
        }
        self.launch("add", same([x.len, y.len]), arguments!(r x, w y));
    }

    fn add_rectified(&self, x: &Self::Buffer, y: &mut Self::Buffer) {
        self.launch("add_rectified", same([x.len, y.len]), arguments!(r x, w y));
    }

    fn rectify(&self, x: &Self::Buffer, y: &mut Self::Buffer) {
        if y.is_operand() {
            return self.rectify_to_operand(x, y);
        }
        self.launch("rectify", same([x.len, y.len]), arguments!(r x, o y));
    }

    fn add_where_positive(&self, x: &Self::Buffer, q: &Self::Buffer, y: &mut Self::Buffer) {
        if q.is_operand() {
            return self.add_operand(q, Some(x), y);
        }
        let items = same([x.len, q.len, y.len]);
        self.launch("add_where_positive", items, arguments!(r x, r q, w y));
    }

    fn clear_where_not_positive(&self, x: &Self::Buffer, y: &mut Self::Buffer) {
        self.launch("clear_where_not_positive", same([x.len, y.len]), arguments!(r x, w y));
    }

    fn read(&self, reductions: &mut Reductions<G::Memory>) -> Vec<Vec<f64>> {
        self.take(reductions);
        std::mem::take(&mut reductions.read)
    }

    fn sum_squares(&self, x: &Self::Buffer, reductions: &mut Reductions<G::Memory>) {
        self.reduce(reductions, x.len, Fold::Sum, |count, first, parts| {
            self.launch("squares", count, arguments!(r x, long x.len, long first, w parts));
        });
    }

    fn max_abs(&self, x: &Self::Buffer, reductions: &mut Reductions<G::Memory>) {
        self.reduce(reductions, x.len, Fold::Largest, |count, first, parts| {
            self.launch("magnitudes", count, arguments!(r x, long x.len, long first, w parts));
        });
    }

    fn sum_squared_differences(&self, x: &Self::Buffer, y: &Self::Buffer, reductions: &mut Reductions<G::Memory>) {
        let values = same([x.len, y.len]);
        self.reduce(reductions, values, Fold::Sum, |count, first, parts| {
            let arguments = arguments!(r x, r y, long values, long values, long first, w parts);
            self.launch("distances", count, arguments);
        });
    }

    fn add_scaled(&self, factor: f64, x: &Self::Buffer, y: &mut Self::Buffer) {
        self.launch("add_scaled", same([x.len, y.len]), arguments!(float factor, r x, w y));
    }

    fn add_product(&self, factor: f64, x: &Self::Buffer, y: &Self::Buffer, z: &mut Self::Buffer) {
        let items = same([x.len, y.len, z.len]);
        self.launch("add_product", items, arguments!(float factor, r x, r y, w z));
    }

    fn add_dot(
        &self,
        work: &mut Self::Workspace,
        factor: f64,
        x: &Self::Buffer,
        y: &Self::Buffer,
        sum: &mut Self::Buffer,
    ) {
        same([x.len, y.len]);
        self.add_product_sum(work, factor, [x, y], sum);
    }

    fn scale(&self, factor: f64, x: &mut Self::Buffer) {
        self.launch("scale", x.len, arguments!(float factor, w x));
    }

    fn clamp_unit(&self, _maps: Maps, x: &mut Self::Buffer) {
        self.launch("clamp_unit", x.len, arguments!(w x));
    }

    fn add_normal(&self, maps: Maps, noise: NormalNoise<'_>, x: &Self::Buffer, y: &mut Self::Buffer) {
        assert_eq!(noise.streams.len(), maps.batch);
        let items = same([x.len, y.len, maps.len()]);
        let words: Vec<u32> = noise.streams.iter().flat_map(Stream::words).collect();
        let names = self.uploaded(&words);
        let (channels, plane) = (maps.channels, maps.plane());
        let arguments =
            arguments!(r names, float noise.std, int noise.proportional, r x, long channels, long plane, w y);
        self.launch("add_normal", items, arguments);
    }

    fn broadcast(&self, maps: Maps, one: &Self::Buffer, out: &mut Self::Buffer) {
        let items = same([out.len, maps.len(), one.len * maps.batch]);
        self.launch("broadcast", items, arguments!(r one, long one.len, o out));
    }

    fn broadcast_parameter(&self, maps: Maps, parameter: &Self::Buffer, out: &mut Self::Buffer) {
        let items = same([out.len, maps.len(), parameter.len * maps.batch]);
        let (channels, plane) = (maps.channels, maps.plane());
        self.launch(
            "broadcast_parameter",
            items,
            arguments!(r parameter, long channels, long plane, o out),
        );
    }

    fn add_batch_sum(&self, maps: Maps, x: &Self::Buffer, out: &mut Self::Buffer) {
        same([x.len, maps.len(), out.len * maps.batch]);
        let (channels, plane) = (maps.channels, maps.plane());
        self.launch(
            "add_batch_sum",
            channels * plane,
            arguments!(r x, long channels, long plane, long maps.batch, w out),
        );
    }

    fn filter(&self, shape: ConvShape, weight: &Self::Buffer) -> Self::Filter {
        let mut filter = self.new_filter(shape);
        self.fill(&mut filter, weight);
        filter
    }

    fn fill_filter(&self, _shape: ConvShape, filter: &mut Self::Filter, weight: &Self::Buffer) {
        self.fill(filter, weight);
    }

    fn weight_bytes(&self, shape: ConvShape) -> [u64; 2] {
        self.bytes_of_weights(shape)
    }

    fn scratch_bytes(&self, shapes: &[ConvShape], batch: usize) -> u64 {
        self.bytes_of_work(shapes, batch) + self.gpu.convolution_scratch()
    }

    fn conv(
        &self,
        work: &mut Self::Workspace,
        filter: &Self::Filter,
        batch: usize,
        x: &Self::Buffer,
        y: &mut Self::Buffer,
        accumulate: bool,
    ) {
        self.apply(work, Pass::Forward, filter, batch, (x, y), accumulate);
    }

    fn conv_transpose(
        &self,
        work: &mut Self::Workspace,
        filter: &Self::Filter,
        batch: usize,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
        accumulate: bool,
    ) {
        self.apply(work, Pass::Inputs, filter, batch, (dy, dx), accumulate);
    }

    fn weight_sum(&self, shape: ConvShape) -> Self::WeightSum {
        self.new_sum(shape)
    }

    fn clear_weight_sum(&self, sum: &mut Self::WeightSum) {
        self.clear_sum(sum);
    }

    fn add_weight_gradient(
        &self,
        work: &mut Self::Workspace,
        sum: &mut Self::WeightSum,
        batch: usize,
        x: &Self::Buffer,
        dy: &Self::Buffer,
    ) {
        self.add_to_sum(work, sum, batch, x, dy);
    }

    fn finish_weight_gradient(&self, sum: &mut Self::WeightSum, dw: &mut Self::Buffer) {
        self.finish_sum(sum, dw);
    }

    fn relax(
        &self,
        work: &mut Self::Workspace,
        terms: &[(&Self::Filter, &Self::Buffer)],
        batch: usize,
        step: Relaxation<'_, Self::Buffer>,
    ) {
        self.relax_from(work, terms, batch, step);
    }

    fn relax_adjoint(
        &self,
        (alpha, phi): (f64, Phi),
        x: &Self::Buffer,
        y: &Self::Buffer,
        g: &mut Self::Buffer,
        delta: &mut Self::Buffer,
        sum: &mut Self::Buffer,
    ) {
        let items = same([x.len, y.len, g.len, delta.len, sum.len]);
        self.launch(
            "relax_adjoint",
            items,
            arguments!(float 1.0 - alpha, float alpha, float alpha * phi.slope(), r x, r y, w g, o delta, w sum),
        );
    }

    fn gathered_adjoint(&self, x: &Self::Buffer, y: &Self::Buffer, adjoint: Adjoint<'_, Self::Buffer>) {
        if adjoint.delta.is_operand() {
            return self.adjoint_of_operands(packed::Relaxed::Exact(x, y), adjoint);
        }
        relaxation::gathered(self, y, adjoint, |step, [g, delta, sum]| {
            self.relax_adjoint(step, x, y, g, delta, sum);
        });
    }

    fn avg_pool(&self, maps: Maps, x: &Self::Buffer, y: &mut Self::Buffer) {
        let out = maps.side.div_ceil(2);
        assert_eq!((x.len, y.len), (maps.len(), Maps { side: out, ..maps }.len()));
        self.launch(
            "avg_pool",
            y.len,
            arguments!(r x, long maps.channels, long maps.side, long out, w y),
        );
    }

    fn avg_pool_transpose(&self, maps: Maps, dy: &Self::Buffer, dx: &mut Self::Buffer) {
        let out = maps.side.div_ceil(2);
        assert_eq!((dx.len, dy.len), (maps.len(), Maps { side: out, ..maps }.len()));
        self.launch(
            "avg_pool_transpose",
            dx.len,
            arguments!(r dy, long maps.channels, long maps.side, long out, w dx),
        );
    }

    fn upsample(
        &self,
        maps: Maps,
        (side, interpolation): (usize, Interpolation),
        x: &Self::Buffer,
        y: &mut Self::Buffer,
        accumulate: bool,
    ) {
        assert_eq!((x.len, y.len), (maps.len(), Maps { side, ..maps }.len()));
        let (channels, bilinear) = (maps.channels, interpolation == Interpolation::Bilinear);
        self.launch(
            "upsample",
            y.len,
            arguments!(r x, long channels, long maps.side, long side, int bilinear, int accumulate, w y),
        );
    }

    fn upsample_transpose(
        &self,
        maps: Maps,
        (side, interpolation): (usize, Interpolation),
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
        accumulate: bool,
    ) {
        assert_eq!((dx.len, dy.len), (maps.len(), Maps { side, ..maps }.len()));
        let (channels, bilinear) = (maps.channels, interpolation == Interpolation::Bilinear);
        self.launch(
            "upsample_transpose",
            dx.len,
            arguments!(r dy, long channels, long maps.side, long side, int bilinear, int accumulate, w dx),
        );
    }

    fn pool(
        &self,
        maps: Maps,
        a: &Self::Buffer,
        b: Option<&Self::Buffer>,
        pooled: &mut Self::Buffer,
        accumulate: bool,
    ) {
        // The first stands for the second where that is not read.
        let second = b.unwrap_or(a);
        same([a.len, second.len, maps.len(), pooled.len * maps.plane()]);
        let (channels, plane) = (maps.channels, maps.plane());
        self.launch(
            "pool",
            pooled.len,
            arguments!(r a, r second, int b.is_some(), int accumulate, long channels, long plane, w pooled),
        );
    }

    fn add_unpooled(
        &self,
        maps: Maps,
        dpooled: &Self::Buffer,
        x: &Self::Buffer,
        rectified: bool,
        g: &mut Self::Buffer,
    ) {
        let items = same([x.len, g.len, maps.len(), dpooled.len * maps.plane()]);
        let (channels, plane) = (maps.channels, maps.plane());
        // What is not read may be out of date.
        let x = if rectified { x } else { dpooled };
        self.launch(
            "add_unpooled",
            items,
            arguments!(r dpooled, r x, long channels, long plane, int rectified, w g),
        );
    }

    fn upload_targets(&self, targets: &[Target], out: &mut Self::Buffer) {
        let numbers: Vec<f32> = Target::numbers(targets);
        if out.len != numbers.len() {
            *out = self.room_f32(numbers.len());
        }
        if let Some(memory) = out.overwritten() {
            self.attempt(|gpu| gpu.write(bytemuck::cast_slice(&numbers), memory));
        }
    }

    fn cross_entropy(
        &self,
        classes: usize,
        logits: &Self::Buffer,
        targets: &Self::Buffer,
        scale: f64,
        dlogits: &mut Self::Buffer,
        reductions: &mut Reductions<G::Memory>,
    ) {
        let images = targets.len / 3;
        let values = same([logits.len, dlogits.len, classes * images]);
        let first = self.places(reductions, images);
        let count = classes.min(ROW_PARTS);
        self.parts_of(reductions, (2 * images * count).max(PARTS));
        if reductions.sums.len < 2 * images {
            reductions.sums = self.room(2 * images, size_of::<f64>());
        }
        let Reductions { cells, parts, sums, .. } = reductions;
        self.launch(
            "logit_parts",
            images * count,
            arguments!(r logits, long classes, long count, w parts),
        );
        self.launch(
            "cross_entropy",
            images,
            arguments!(r logits, r targets, long classes, long count, r parts, long first, w sums, w cells),
        );
        self.launch(
            "cross_entropy_gradient",
            values,
            arguments!(r logits, r targets, long classes, double scale, r sums, o dlogits),
        );
    }

    fn sum_squared_distances(
        &self,
        maps: Maps,
        x: &Self::Buffer,
        centre: &Self::Buffer,
        reductions: &mut Reductions<G::Memory>,
    ) {
        let values = same([x.len, maps.len(), centre.len * maps.batch]);
        self.reduce(reductions, values, Fold::Sum, |count, first, parts| {
            let arguments = arguments!(r x, r centre, long centre.len, long values, long first, w parts);
            self.launch("distances", count, arguments);
        });
    }

    fn add_distance_gradient(
        &self,
        maps: Maps,
        x: &Self::Buffer,
        centre: &Self::Buffer,
        scale: f64,
        g: &mut Self::Buffer,
    ) {
        let items = same([x.len, maps.len(), centre.len * maps.batch, g.len]);
        let arguments = arguments!(float 2.0 * scale, r x, r centre, long centre.len, w g);
        self.launch("add_distance_gradient", items, arguments);
    }

    fn weight_norm(&self, rows: usize, g: &Self::Buffer, v: &Self::Buffer) -> Self::Buffer {
        assert_eq!(g.len, rows);
        let (patch, parts) = (v.len / rows, self.row_products(rows, v, v));
        let (mut w, count) = (self.room_f32(v.len), ROW_PARTS);
        self.launch(
            "weight_norm",
            v.len,
            arguments!(r g, r v, long patch, long count, r parts, w w),
        );
        w
    }

    fn weight_norm_adjoint(
        &self,
        rows: usize,
        g: &Self::Buffer,
        v: &Self::Buffer,
        dw: &Self::Buffer,
        dg: &mut Self::Buffer,
        dv: &mut Self::Buffer,
    ) {
        assert_eq!((g.len, dg.len), (rows, rows));
        let patch = same([v.len, dw.len, dv.len]) / rows;
        let (parts, count) = (self.row_products(rows, v, dw), ROW_PARTS);
        self.launch(
            "weight_norm_adjoint",
            v.len,
            arguments!(r g, r v, r dw, long patch, long count, r parts, w dg, w dv),
        );
    }

    fn channel_moments(&self, maps: Maps, x: &Self::Buffer) -> Vec<[f64; 2]> {
        let count = (maps.batch * maps.plane()) as f64;
        let means = self.channel_sums(maps, Some(x), None);
        let means: Vec<f64> = means.iter().map(|sum| sum / count).collect();
        let squares = self.channel_sums(maps, None, Some((x, &means)));
        means
            .into_iter()
            .zip(squares)
            .map(|(mean, squares)| [mean, squares])
            .collect()
    }

    fn scale_channels(&self, maps: Maps, factors: &Self::Buffer, x: &mut Self::Buffer) {
        same([factors.len, maps.channels]);
        let items = same([x.len, maps.len()]);
        self.launch("scale_channels", items, arguments!(r factors, long maps.channels, w x));
    }

    fn add_scaled_channels(
        &self,
        maps: Maps,
        factor: f64,
        factors: &Self::Buffer,
        x: &Self::Buffer,
        y: &mut Self::Buffer,
    ) {
        same([factors.len, maps.channels]);
        let items = same([x.len, y.len, maps.len()]);
        self.launch(
            "add_scaled_channels",
            items,
            arguments!(float factor, r factors, long maps.channels, r x, w y),
        );
    }

    fn add_channel_dots(
        &self,
        work: &mut Self::Workspace,
        maps: Maps,
        factor: f64,
        [x, y]: [&Self::Buffer; 2],
        sums: &mut Self::Buffer,
    ) {
        same([x.len, y.len, maps.len()]);
        same([sums.len, maps.channels]);
        self.add_channel_product_sums(work, maps, factor, [x, y], sums);
    }

    fn channel_affine(&self, maps: Maps, scale: &[f64], shift: &[f64], x: &Self::Buffer, y: &mut Self::Buffer) {
        let items = same([x.len, y.len, maps.len()]);
        let pairs = scale.iter().zip(shift);
        let coefficients: Vec<f32> = pairs
            .flat_map(|(scale, shift)| [*scale as f32, *shift as f32])
            .collect();
        let coefficients = self.uploaded(&coefficients);
        self.launch(
            "channel_affine",
            items,
            arguments!(r coefficients, long maps.channels, r x, w y),
        );
    }

    fn channel_gradient_sums(&self, maps: Maps, mean: &[f64], x: &Self::Buffer, dy: &Self::Buffer) -> Vec<[f64; 2]> {
        let sums = self.channel_sums(maps, Some(dy), None);
        let centred = self.channel_sums(maps, Some(dy), Some((x, mean)));
        sums.into_iter()
            .zip(centred)
            .map(|(sum, centred)| [sum, centred])
            .collect()
    }

    fn channel_combine(&self, maps: Maps, coefficients: &[[f64; 4]], x: &Self::Buffer, dy: &mut Self::Buffer) {
        let items = same([x.len, dy.len, maps.len()]);
        let coefficients: Vec<f32> = coefficients.iter().flatten().map(|value| *value as f32).collect();
        let coefficients = self.uploaded(&coefficients);
        self.launch(
            "channel_combine",
            items,
            arguments!(r coefficients, long maps.channels, r x, w dy),
        );
    }

    fn sgd_step(
        &self,
        rate: f64,
        momentum: f64,
        weight_decay: f64,
        gradient: &Self::Buffer,
        velocity: &mut Self::Buffer,
        parameter: &mut Self::Buffer,
    ) {
        let items = same([gradient.len, velocity.len, parameter.len]);
        self.launch(
            "sgd",
            items,
            arguments!(float rate, float momentum, float weight_decay, r gradient, w velocity, w parameter),
        );
    }

    fn adam_step(
        &self,
        step: AdamStep,
        gradient: &Self::Buffer,
        moments: &mut [Self::Buffer; 2],
        parameter: &mut Self::Buffer,
    ) {
        let [first, second] = moments;
        let items = same([gradient.len, first.len, second.len, parameter.len]);
        let [beta1, beta2] = step.betas;
        let factors = step.factors();
        self.launch("adam", items, arguments!(
                float factors.rate, float factors.root, float factors.shrink, float factors.added, float step.epsilon,
                float beta1, float 1.0 - beta1, float beta2, float 1.0 - beta2, r gradient, w first, w second, w parameter
            ));
    }
}
