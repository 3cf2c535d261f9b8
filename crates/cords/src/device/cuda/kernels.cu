// Everything but convolutions, for float32 maps `[batch, side, side, channels]`.
//
// The source is C that a host compiler takes too: tests run it without a GPU. `KERNEL` starts a kernel, whose last parameter is
// the number of its items; `EACH(i)` runs over them. No item reads what another writes, and sums are taken in parts of fixed
// length, so results do not depend on how items are spread. Multiplications and additions are not fused (`--fmad=false`): the
// adjoint of a relaxation finds the sign of its sum by comparing with `keep * x`, bit by bit.

#ifdef __CUDACC_RTC__
typedef long long Long;
#define KERNEL extern "C" __global__ void __launch_bounds__(256)
#define EACH(i) for (Long i = blockIdx.x * (Long)blockDim.x + threadIdx.x; i < items; i += gridDim.x * (Long)blockDim.x)
#define FUNCTION static __device__
#define BITS(x) __float_as_uint(x)
#define FLOAT(x) __uint_as_float(x)
#else
#include <math.h>
#include <string.h>
typedef long long Long;
#define KERNEL static void
#define FUNCTION static
#define EACH(i) for (Long i = 0; i < items; i++)
static unsigned BITS(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
static float FLOAT(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
#endif

// bfloat16, rounded to even in ties.
FUNCTION unsigned short narrowed(float x) {
    unsigned bits = BITS(x);
    return (unsigned short)(x != x ? bits >> 16 | 64 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

FUNCTION float widened(unsigned short x) { return FLOAT((unsigned)x << 16); }

// --- values by themselves -------------------------------------------------------------------------------------------

KERNEL add(const float *x, float *y, Long items) { EACH(i) y[i] += x[i]; }

KERNEL rectify(const float *x, float *y, Long items) { EACH(i) y[i] = x[i] > 0 ? x[i] : 0; }

KERNEL add_rectified(const float *x, float *y, Long items) { EACH(i) y[i] += x[i] > 0 ? x[i] : 0; }

KERNEL add_where_positive(const float *x, const float *q, float *y, Long items) { EACH(i) y[i] += x[i] > 0 ? q[i] : 0; }

KERNEL clear_where_not_positive(const float *x, float *y, Long items) { EACH(i) y[i] = x[i] > 0 ? y[i] : 0; }

KERNEL add_scaled(float factor, const float *x, float *y, Long items) { EACH(i) y[i] += factor * x[i]; }

KERNEL add_product(float factor, const float *x, const float *y, float *z, Long items) {
    EACH(i) z[i] += factor * x[i] * y[i];
}

KERNEL scale(float factor, float *x, Long items) { EACH(i) x[i] *= factor; }

KERNEL clamp_unit(float *x, Long items) { EACH(i) x[i] = x[i] > 0 ? (x[i] < 1 ? x[i] : 1) : 0; }

// --- noise ------------------------------------------------------------------------------------------------------------

FUNCTION unsigned high_product(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }

// One block of Philox4x32-10, as `rng` has it; `words` are the counter and become the block.
FUNCTION void philox(unsigned *words, unsigned key0, unsigned key1) {
    for (int round = 0; round < 10; round++) {
        unsigned high0 = high_product(0xD2511F53u, words[0]), low0 = 0xD2511F53u * words[0];
        unsigned high1 = high_product(0xCD9E8D57u, words[2]), low1 = 0xCD9E8D57u * words[2];
        words[0] = high1 ^ words[1] ^ key0;
        words[1] = low1;
        words[2] = high0 ^ words[3] ^ key1;
        words[3] = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

// y = x + std n, or x + std n x. `names` has four words for each image; n are the normal values of the stream that they name,
// in the order [channels, plane].
KERNEL add_normal(const unsigned *names, float std, int proportional, const float *x, Long channels, Long plane, float *y,
                  Long items) {
    EACH(i) {
        Long value = i % channels * plane + i / channels % plane;
        const unsigned *name = names + 4 * (i / channels / plane);
        Long block = value / 4;
        unsigned words[4] = {(unsigned)block, (unsigned)((unsigned long long)block >> 32), name[2], name[3]};
        philox(words, name[0], name[1]);
        int pair = value % 4 / 2 * 2;
        double radius = sqrt(-2.0 * log((words[pair] + 0.5) * (1.0 / 4294967296.0)));
        double angle = 6.283185307179586 * words[pair + 1] * (1.0 / 4294967296.0);
        float added = std * (float)(radius * (value % 2 ? sin(angle) : cos(angle)));
        y[i] = x[i] + (proportional ? added * x[i] : added);
    }
}

// --- relaxation -------------------------------------------------------------------------------------------------------

// y = keep x + alpha phi(offset + u).
KERNEL relax(float keep, float alpha, float slope, const float *offset, const float *u, const float *x, float *y, Long items) {
    EACH(i) {
        float v = offset[i] + u[i];
        y[i] = keep * x[i] + alpha * (v > 0 ? v : slope * v);
    }
}

KERNEL relax_adjoint(float keep, float positive, float negative, const float *x, const float *y, float *g, float *delta, float *sum,
                     Long items) {
    EACH(i) {
        float d = (y[i] > keep * x[i] ? positive : negative) * g[i];
        delta[i] = d;
        sum[i] += d;
        g[i] *= keep;
    }
}

// The same with one or both of two sums of bfloat16.
KERNEL relax_narrow(float keep, float alpha, float slope, int both, const float *offset, const unsigned short *u,
                    const unsigned short *v, const float *x, float *y, Long items) {
    EACH(i) {
        float w = offset[i] + widened(u[i]);
        if (both) w += widened(v[i]);
        y[i] = keep * x[i] + alpha * (w > 0 ? w : slope * w);
    }
}

// Values are rounded to bfloat16; a word holds the signs of the arguments of phi of 32 of them. An item is a word.
KERNEL pack(float keep, Long values, const float *x, const float *y, unsigned short *packed, unsigned *signs, Long items) {
    EACH(word) {
        unsigned positive = 0;
        for (int bit = 0; bit < 32 && word * 32 + bit < values; bit++) {
            Long i = word * 32 + bit;
            packed[i] = narrowed(y[i]);
            positive |= (unsigned)(y[i] > keep * x[i]) << bit;
        }
        signs[word] = positive;
    }
}

KERNEL unpack(const unsigned short *packed, float *x, Long items) { EACH(i) x[i] = widened(packed[i]); }

KERNEL narrow(const float *x, Long first, unsigned short *y, Long items) { EACH(i) y[first + i] = narrowed(x[i]); }

KERNEL add_narrow(const unsigned short *x, float *y, Long items) { EACH(i) y[i] += widened(x[i]); }

KERNEL packed_adjoint(float keep, float positive, float negative, const unsigned *signs, float *g, float *delta, float *sum,
                      Long items) {
    EACH(i) {
        float d = (signs[i / 32] >> (i % 32) & 1 ? positive : negative) * g[i];
        delta[i] = d;
        sum[i] += d;
        g[i] *= keep;
    }
}

KERNEL sgd(float rate, float momentum, float decay, const float *gradient, float *velocity, float *parameter, Long items) {
    EACH(i) {
        velocity[i] = momentum * velocity[i] + gradient[i] + decay * parameter[i];
        parameter[i] -= rate * velocity[i];
    }
}

// Bias corrections are in `rate` and `root`; `shrink` and `added` are the two kinds of weight decay.
KERNEL adam(float rate, float root, float shrink, float added, float epsilon, float beta1, float new1, float beta2, float new2,
            const float *gradient, float *first, float *second, float *parameter, Long items) {
    EACH(i) {
        float g = gradient[i] + added * parameter[i];
        first[i] = beta1 * first[i] + new1 * g;
        second[i] = beta2 * second[i] + new2 * g * g;
        parameter[i] = shrink * parameter[i] - rate * first[i] / (sqrtf(second[i]) / root + epsilon);
    }
}

// --- sums: an item is a part, which takes every `items`-th value; parts go to the places from `first` on ---------------

KERNEL squares(const float *x, Long values, Long first, double *parts, Long items) {
    EACH(part) {
        double sum = 0;
        for (Long i = part; i < values; i += items) sum += (double)x[i] * x[i];
        parts[first + part] = sum;
    }
}

KERNEL products(const float *x, const float *y, Long values, double *parts, Long items) {
    EACH(part) {
        double sum = 0;
        for (Long i = part; i < values; i += items) sum += (double)x[i] * y[i];
        parts[part] = sum;
    }
}

// One value, of which there is one item.
KERNEL add_total(double factor, const double *parts, Long count, float *sum, Long items) {
    EACH(i) {
        double total = 0;
        for (Long part = 0; part < count; part++) total += parts[part];
        sum[i] += (float)(factor * total);
    }
}

KERNEL magnitudes(const float *x, Long values, Long first, double *parts, Long items) {
    EACH(part) {
        double largest = 0;
        for (Long i = part; i < values; i += items) {
            double y = fabs((double)x[i]);
            if (!(y <= largest)) largest = y;
            if (largest != largest) break;
        }
        parts[first + part] = largest;
    }
}

// Squared distances from `centre`, the same for every image.
KERNEL distances(const float *x, const float *centre, Long image, Long values, Long first, double *parts, Long items) {
    EACH(part) {
        double sum = 0;
        for (Long i = part; i < values; i += items) {
            double difference = x[i] - centre[i % image];
            sum += difference * difference;
        }
        parts[first + part] = sum;
    }
}

KERNEL add_distance_gradient(float factor, const float *x, const float *centre, Long image, float *g, Long items) {
    EACH(i) g[i] += factor * (x[i] - centre[i % image]);
}

// --- layout -----------------------------------------------------------------------------------------------------------

// From `[batch, channels, plane]` to `[batch, plane, channels]`. The same kernel with the last two exchanged goes back.
KERNEL exchange(const float *x, Long channels, Long plane, float *y, Long items) {
    EACH(i) {
        Long channel = i % channels, rest = i / channels;
        y[i] = x[(rest / plane * channels + channel) * plane + rest % plane];
    }
}

// Weights, to bfloat16.
KERNEL exchange_narrow(const float *x, Long channels, Long plane, unsigned short *y, Long items) {
    EACH(i) {
        Long channel = i % channels, rest = i / channels;
        y[i] = narrowed(x[(rest / plane * channels + channel) * plane + rest % plane]);
    }
}

KERNEL broadcast(const float *one, Long image, float *y, Long items) { EACH(i) y[i] = one[i % image]; }

// One parameter `[channels, plane]` for every image `[plane, channels]`.
KERNEL broadcast_parameter(const float *one, Long channels, Long plane, float *y, Long items) {
    EACH(i) y[i] = one[i % channels * plane + i / channels % plane];
}

// The sum over images is added to a parameter `[channels, plane]`; an item is one of its values.
KERNEL add_batch_sum(const float *x, Long channels, Long plane, Long batch, float *sum, Long items) {
    EACH(i) {
        Long channel = i % channels, position = i / channels;
        float total = sum[channel * plane + position];
        for (Long image = 0; image < batch; image++) total += x[image * items + i];
        sum[channel * plane + position] = total;
    }
}

// y += x, from `[rows, plane, channels]` to `[rows, channels, plane]`.
KERNEL add_exchanged(const float *x, Long channels, Long plane, float *y, Long items) {
    EACH(i) {
        Long position = i % plane, rest = i / plane;
        y[i] += x[(rest / channels * plane + position) * channels + rest % channels];
    }
}

// --- pooling and cross-entropy ----------------------------------------------------------------------------------------

// Average of 3x3 with stride 2 and padding 1, zeros counted; an item is an output.
KERNEL avg_pool(const float *x, Long channels, Long side, Long out, float *y, Long items) {
    EACH(i) {
        Long channel = i % channels, ox = i / channels % out, oy = i / channels / out % out, image = i / channels / out / out;
        float sum = 0;
        for (Long iy = oy ? 2 * oy - 1 : 0; iy < 2 * oy + 2 && iy < side; iy++)
            for (Long ix = ox ? 2 * ox - 1 : 0; ix < 2 * ox + 2 && ix < side; ix++)
                sum += x[((image * side + iy) * side + ix) * channels + channel];
        y[i] = sum * (1.0f / 9.0f);
    }
}

// Its transpose; an item is an input, which lies in the windows of outputs i/2 and (i+1)/2.
KERNEL avg_pool_transpose(const float *dy, Long channels, Long side, Long out, float *dx, Long items) {
    EACH(i) {
        Long channel = i % channels, ix = i / channels % side, iy = i / channels / side % side, image = i / channels / side / side;
        float sum = 0;
        for (Long oy = iy / 2; oy <= (iy + 1) / 2 && oy < out; oy++)
            for (Long ox = ix / 2; ox <= (ix + 1) / 2 && ox < out; ox++)
                sum += dy[((image * out + oy) * out + ox) * channels + channel];
        dx[i] = sum * (1.0f / 9.0f);
    }
}

// The two input positions that an output position of an axis reads, and the second one's weight. Maps of `side` become maps of
// `out`.
FUNCTION double place(Long position, Long side, Long out, int bilinear, Long *first, Long *second) {
    if (!bilinear) {
        *first = *second = position * side / out;
        return 0;
    }
    double at = (position + 0.5) * ((double)side / out) - 0.5;
    if (at < 0) at = 0;
    *first = (Long)at < side - 1 ? (Long)at : side - 1;
    *second = *first + 1 < side - 1 ? *first + 1 : side - 1;
    return at - *first;
}

// y = x enlarged, or y += where `added`; an item is an output.
KERNEL upsample(const float *x, Long channels, Long side, Long out, int bilinear, int added, float *y, Long items) {
    EACH(i) {
        Long channel = i % channels, ox = i / channels % out, oy = i / channels / out % out, image = i / channels / out / out;
        Long rows[2], columns[2];
        double down = place(oy, side, out, bilinear, rows, rows + 1), right = place(ox, side, out, bilinear, columns, columns + 1);
        float sum = added ? y[i] : 0;
        for (int part = 0; part < 4; part++) {
            double weight = (part / 2 ? down : 1 - down) * (part % 2 ? right : 1 - right);
            if (weight != 0)
                sum += (float)weight * x[((image * side + rows[part / 2]) * side + columns[part % 2]) * channels + channel];
        }
        y[i] = sum;
    }
}

// What an output position reads of an input position.
FUNCTION double share(Long position, Long input, Long side, Long out, int bilinear) {
    Long first, second;
    double weight = place(position, side, out, bilinear, &first, &second);
    return (first == input ? 1 - weight : 0) + (second == input ? weight : 0);
}

// Its transpose; an item is an input, which only outputs about its own place can read.
KERNEL upsample_transpose(const float *dy, Long channels, Long side, Long out, int bilinear, int added, float *dx, Long items) {
    EACH(i) {
        Long channel = i % channels, ix = i / channels % side, iy = i / channels / side % side, image = i / channels / side / side;
        Long reach = (out + side - 1) / side + 1;
        Long top = iy * out / side - reach, left = ix * out / side - reach;
        float sum = added ? dx[i] : 0;
        for (Long oy = top < 0 ? 0 : top; oy < out && oy <= top + 3 * reach; oy++) {
            double down = share(oy, iy, side, out, bilinear);
            if (down == 0) continue;
            for (Long ox = left < 0 ? 0 : left; ox < out && ox <= left + 3 * reach; ox++) {
                double right = share(ox, ix, side, out, bilinear);
                if (right != 0) sum += (float)(down * right) * dy[((image * out + oy) * out + ox) * channels + channel];
            }
        }
        dx[i] = sum;
    }
}

// Mean over the plane of max(a, 0), and of max(b, 0) where there are both, added to what there is or not; an item is a channel of
// an image.
KERNEL pool(const float *a, const float *b, int both, int added, Long channels, Long plane, float *pooled, Long items) {
    EACH(i) {
        Long first = i / channels * plane * channels + i % channels;
        double sum = 0;
        for (Long p = 0; p < plane; p++) {
            float x = a[first + p * channels], y = both ? b[first + p * channels] : 0;
            sum += (x > 0 ? x : 0) + (y > 0 ? y : 0);
        }
        float mean = (float)(sum / plane);
        pooled[i] = added ? pooled[i] + mean : mean;
    }
}

KERNEL add_unpooled(const float *dpooled, const float *x, Long channels, Long plane, int rectified, float *g, Long items) {
    EACH(i) {
        float share = dpooled[i / channels / plane * channels + i % channels] * (float)(1.0 / plane);
        g[i] += !rectified || x[i] > 0 ? share : 0;
    }
}

// Cross-entropy of an image, to the places from `first` on, and dlogits = scale (softmax - target). Of each image
// `targets` has three numbers: a class, another one, and the first one's weight in the target; the other has the rest.
KERNEL cross_entropy(const float *logits, const float *targets, Long classes, double factor, Long first, float *dlogits,
                     double *losses, Long items) {
    EACH(image) {
        const float *x = logits + image * classes, *target = targets + 3 * image;
        Long label = (Long)target[0], partner = (Long)target[1];
        double weight = target[2], rest = 1 - weight;
        double largest = x[0], total = 0;
        for (Long class_ = 1; class_ < classes; class_++)
            if (x[class_] > largest) largest = x[class_];
        for (Long class_ = 0; class_ < classes; class_++) total += exp(x[class_] - largest);
        for (Long class_ = 0; class_ < classes; class_++) {
            double share = exp(x[class_] - largest) / total - (weight * (class_ == label) + rest * (class_ == partner));
            dlogits[image * classes + class_] = (float)(factor * share);
        }
        losses[first + image] = largest + log(total) - (weight * x[label] + rest * x[partner]);
    }
}

// --- norms ------------------------------------------------------------------------------------------------------------

// w = g v / |v|; an item is a row.
KERNEL weight_norm(const float *g, const float *v, Long patch, float *w, Long items) {
    EACH(row) {
        double sum = 0;
        for (Long i = row * patch; i < (row + 1) * patch; i++) sum += (double)v[i] * v[i];
        float factor = (float)(g[row] / sqrt(sum));
        for (Long i = row * patch; i < (row + 1) * patch; i++) w[i] = factor * v[i];
    }
}

// With n = |v| and h = <v, dw>/n: dg = h, dv = g/n (dw - h v/n).
KERNEL weight_norm_adjoint(const float *g, const float *v, const float *dw, Long patch, float *dg, float *dv, Long items) {
    EACH(row) {
        double squares = 0, dot = 0;
        for (Long i = row * patch; i < (row + 1) * patch; i++) {
            squares += (double)v[i] * v[i];
            dot += (double)v[i] * dw[i];
        }
        double norm = sqrt(squares), along = dot / norm;
        dg[row] = (float)along;
        for (Long i = row * patch; i < (row + 1) * patch; i++) dv[i] = (float)(g[row] / norm * (dw[i] - along / norm * v[i]));
    }
}

// Per channel the sum of `a (b - centre)`, or of `a` where there is no b, of `(b - centre)^2` where there is no a. An item is a
// part of a channel, which takes every `parts`-th position.
KERNEL channel_sums(const float *a, const float *b, int with_a, int with_b, const double *centre, Long channels, Long positions,
                    Long parts, double *sums, Long items) {
    EACH(i) {
        Long channel = i % channels;
        double sum = 0;
        for (Long p = i / channels; p < positions; p += parts) {
            double y = with_b ? b[p * channels + channel] - centre[channel] : 1;
            sum += (with_a ? (double)a[p * channels + channel] : y) * y;
        }
        sums[i] = sum;
    }
}

// An item is a channel of `[parts, channels]`.
KERNEL channel_totals(const double *sums, Long parts, double *totals, Long items) {
    EACH(channel) {
        double total = 0;
        for (Long part = 0; part < parts; part++) total += sums[part * items + channel];
        totals[channel] = total;
    }
}

// An item is a part of a channel, as above.
KERNEL channel_products(const float *x, const float *y, Long channels, Long positions, Long parts, double *sums, Long items) {
    EACH(i) {
        Long channel = i % channels;
        double sum = 0;
        for (Long p = i / channels; p < positions; p += parts) sum += (double)x[p * channels + channel] * y[p * channels + channel];
        sums[i] = sum;
    }
}

// An item is a channel of `[parts, channels]`.
KERNEL add_channel_totals(double factor, const double *sums, Long parts, float *out, Long items) {
    EACH(channel) {
        double total = 0;
        for (Long part = 0; part < parts; part++) total += sums[part * items + channel];
        out[channel] += (float)(factor * total);
    }
}

// One factor for each channel.
KERNEL scale_channels(const float *factors, Long channels, float *x, Long items) { EACH(i) x[i] *= factors[i % channels]; }

KERNEL add_scaled_channels(float factor, const float *factors, Long channels, const float *x, float *y, Long items) {
    EACH(i) y[i] += factor * factors[i % channels] * x[i];
}

// y = scale x + shift per channel, with `[scale, shift]` for each.
KERNEL channel_affine(const float *coefficients, Long channels, const float *x, float *y, Long items) {
    EACH(i) {
        const float *c = coefficients + i % channels * 2;
        y[i] = c[0] * x[i] + c[1];
    }
}

// dy = a dy + b (x - mean) + c per channel, with `[mean, a, b, c]` for each.
KERNEL channel_combine(const float *coefficients, Long channels, const float *x, float *dy, Long items) {
    EACH(i) {
        const float *c = coefficients + i % channels * 4;
        dy[i] = c[1] * dy[i] + c[2] * (x[i] - c[0]) + c[3];
    }
}
