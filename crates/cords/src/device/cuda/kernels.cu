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

// Eight values that follow one another. Buffers begin at multiples of 16 bytes, so that a GPU moves them in one or two pieces.
typedef struct { float v[8]; } Eight;

#ifdef __CUDACC_RTC__
FUNCTION Eight eight(const float *x, Long first) {
    float4 a = ((const float4 *)(x + first))[0], b = ((const float4 *)(x + first))[1];
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

FUNCTION void put(float *x, Long first, Eight y) {
    ((float4 *)(x + first))[0] = make_float4(y.v[0], y.v[1], y.v[2], y.v[3]);
    ((float4 *)(x + first))[1] = make_float4(y.v[4], y.v[5], y.v[6], y.v[7]);
}

FUNCTION Eight eight_narrow(const unsigned short *x, Long first) {
    uint4 words = *(const uint4 *)(x + first);
    unsigned pairs[4] = {words.x, words.y, words.z, words.w};
    Eight y;
    for (int k = 0; k < 8; k++) y.v[k] = widened((unsigned short)(pairs[k / 2] >> 16 * (k % 2)));
    return y;
}

FUNCTION void put_narrow(unsigned short *x, Long first, Eight y) {
    unsigned pairs[4];
    for (int k = 0; k < 4; k++) pairs[k] = narrowed(y.v[2 * k]) | (unsigned)narrowed(y.v[2 * k + 1]) << 16;
    *(uint4 *)(x + first) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}
#else
FUNCTION Eight eight(const float *x, Long first) {
    Eight y;
    for (int k = 0; k < 8; k++) y.v[k] = x[first + k];
    return y;
}

FUNCTION void put(float *x, Long first, Eight y) {
    for (int k = 0; k < 8; k++) x[first + k] = y.v[k];
}

FUNCTION Eight eight_narrow(const unsigned short *x, Long first) {
    Eight y;
    for (int k = 0; k < 8; k++) y.v[k] = widened(x[first + k]);
    return y;
}

FUNCTION void put_narrow(unsigned short *x, Long first, Eight y) {
    for (int k = 0; k < 8; k++) x[first + k] = narrowed(y.v[k]);
}
#endif

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

// --- the same with what convolutions compute from and give, bfloat16; an item is eight values --------------------------

// Adds up to three terms; of those that `masked` has a bit for, only values that `above` has a bit for.
FUNCTION void add_terms(Eight *sum, Long first, int terms, int masked, unsigned above, const unsigned short *u,
                        const unsigned short *v, const unsigned short *w) {
    for (int term = 0; term < 3; term++) {
        if (term >= terms) break;
        Eight values = eight_narrow(term == 0 ? u : term == 1 ? v : w, first);
        for (int k = 0; k < 8; k++) sum->v[k] += (masked >> term & 1) && !(above >> k & 1) ? 0 : values.v[k];
    }
}

// One to three sums by convolutions are added to the offset. Where it is `kept`, y is also rounded for the convolutions that read
// it, with a bit for the sign of each argument of phi: 1 keeps the values, 3 the signs too.
KERNEL relax_narrow(float keep, float alpha, float slope, int terms, int kept, const float *offset, const unsigned short *u,
                    const unsigned short *v, const unsigned short *w, const float *x, float *y, unsigned short *rounded,
                    unsigned char *signs, Long items) {
    EACH(i) {
        Eight sum = eight(offset, 8 * i), before = eight(x, 8 * i), after;
        add_terms(&sum, 8 * i, terms, 0, 0, u, v, w);
        unsigned positive = 0;
        for (int k = 0; k < 8; k++) {
            float kept_part = keep * before.v[k];
            after.v[k] = kept_part + alpha * (sum.v[k] > 0 ? sum.v[k] : slope * sum.v[k]);
            positive |= (unsigned)(after.v[k] > kept_part) << k;
        }
        put(y, 8 * i, after);
        if (kept & 1) put_narrow(rounded, 8 * i, after);
        if (kept & 2) signs[i] = (unsigned char)positive;
    }
}

// The adjoint of a relaxation from x to y, of which nothing is known but y's rounded values and the signs of phi's arguments,
// unless it is `exact`. `parts` gradients of y that convolutions have left are added to g before; of those that `masked` has a bit
// for only where y is positive. delta is summed, with those of `earlier` steps, where it is `summed`.
KERNEL narrow_adjoint(float keep, float positive, float negative, int exact, int parts, int masked, int earlier, int summed,
                      const float *x, const float *y, const unsigned short *rounded, const unsigned char *signs,
                      const unsigned short *p, const unsigned short *q, const unsigned short *r, const unsigned short *d1,
                      const unsigned short *d2, const unsigned short *d3, float *g, unsigned short *delta, float *sum, Long items) {
    EACH(i) {
        Eight gradient = eight(g, 8 * i), value, out;
        unsigned above = 0, driven = 0;
        if (exact) {
            Eight before = eight(x, 8 * i);
            value = eight(y, 8 * i);
            for (int k = 0; k < 8; k++) driven |= (unsigned)(value.v[k] > keep * before.v[k]) << k;
        } else {
            driven = signs[i];
            if (masked) value = eight_narrow(rounded, 8 * i);
        }
        if (masked)
            for (int k = 0; k < 8; k++) above |= (unsigned)(value.v[k] > 0) << k;
        add_terms(&gradient, 8 * i, parts, masked, above, p, q, r);
        for (int k = 0; k < 8; k++) {
            out.v[k] = (driven >> k & 1 ? positive : negative) * gradient.v[k];
            gradient.v[k] *= keep;
        }
        put(g, 8 * i, gradient);
        put_narrow(delta, 8 * i, out);
        if (summed) {
            Eight total = eight(sum, 8 * i);
            add_terms(&total, 8 * i, earlier, 0, 0, d1, d2, d3);
            for (int k = 0; k < 8; k++) total.v[k] += out.v[k];
            put(sum, 8 * i, total);
        }
    }
}

// y = the sum of one to three maps; of those that `rectified` has a bit for, of max(x, 0).
KERNEL sum_narrow(int terms, int rectified, const unsigned short *u, const unsigned short *v, const unsigned short *w,
                  unsigned short *y, Long items) {
    EACH(i) {
        Eight sum = eight_narrow(u, 8 * i), term;
        if (rectified & 1)
            for (int k = 0; k < 8; k++) sum.v[k] = sum.v[k] > 0 ? sum.v[k] : 0;
        if (terms > 1) {
            term = eight_narrow(v, 8 * i);
            for (int k = 0; k < 8; k++) sum.v[k] += (rectified & 2) && !(term.v[k] > 0) ? 0 : term.v[k];
        }
        if (terms > 2) {
            term = eight_narrow(w, 8 * i);
            for (int k = 0; k < 8; k++) sum.v[k] += (rectified & 4) && !(term.v[k] > 0) ? 0 : term.v[k];
        }
        put_narrow(y, 8 * i, sum);
    }
}

// y = x or max(x, 0), from the value `first` of y on.
KERNEL narrow(int rectified, const float *x, Long first, unsigned short *y, Long items) {
    EACH(i) {
        Eight values = eight(x, 8 * i);
        if (rectified)
            for (int k = 0; k < 8; k++) values.v[k] = values.v[k] > 0 ? values.v[k] : 0;
        put_narrow(y, first + 8 * i, values);
    }
}

KERNEL widen(const unsigned short *x, float *y, Long items) { EACH(i) put(y, 8 * i, eight_narrow(x, 8 * i)); }

// One to three terms are added to y, where they are `masked` only where z is positive.
KERNEL add_narrow(int terms, int masked, const unsigned short *u, const unsigned short *v, const unsigned short *w, const float *z,
                  float *y, Long items) {
    EACH(i) {
        Eight sum = eight(y, 8 * i);
        unsigned above = 0;
        if (masked) {
            Eight mask = eight(z, 8 * i);
            for (int k = 0; k < 8; k++) above |= (unsigned)(mask.v[k] > 0) << k;
        }
        add_terms(&sum, 8 * i, terms, masked ? 7 : 0, above, u, v, w);
        put(y, 8 * i, sum);
    }
}

// --- maps kept in half the memory: bfloat16, and a bit for the sign of each argument of phi; an item is up to eight values ----

KERNEL pack(float keep, Long values, const float *x, const float *y, unsigned short *packed, unsigned char *signs, Long items) {
    EACH(i) {
        unsigned positive = 0;
        if (8 * i + 8 <= values) {
            Eight before = eight(x, 8 * i), after = eight(y, 8 * i);
            put_narrow(packed, 8 * i, after);
            for (int k = 0; k < 8; k++) positive |= (unsigned)(after.v[k] > keep * before.v[k]) << k;
        } else {
            for (Long k = 8 * i; k < values; k++) {
                packed[k] = narrowed(y[k]);
                positive |= (unsigned)(y[k] > keep * x[k]) << (k % 8);
            }
        }
        signs[i] = (unsigned char)positive;
    }
}

// An item is a value.
KERNEL unpack(const unsigned short *packed, float *x, Long items) { EACH(i) x[i] = widened(packed[i]); }

// An item is a value.
KERNEL packed_adjoint(float keep, float positive, float negative, const unsigned char *signs, float *g, float *delta, float *sum,
                      Long items) {
    EACH(i) {
        float d = (signs[i / 8] >> (i % 8) & 1 ? positive : negative) * g[i];
        delta[i] = d;
        sum[i] += d;
        g[i] *= keep;
    }
}

// --- optimisers ---------------------------------------------------------------------------------------------------------

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

// Sums of `[count, width]` parts, `[items / width, width]` of them: a part of the result takes every so many of the parts.
KERNEL fold(const double *parts, Long count, Long width, Long first, double *sums, Long items) {
    EACH(i) {
        double sum = 0;
        for (Long part = i / width; part < count; part += items / width) sum += parts[part * width + i % width];
        sums[first + i] = sum;
    }
}

// The same with the largest of `count` magnitudes.
KERNEL fold_largest(const double *parts, Long count, Long first, double *largest, Long items) {
    EACH(i) {
        double found = 0;
        for (Long part = i; part < count; part += items) {
            if (!(parts[part] <= found)) found = parts[part];
            if (found != found) break;
        }
        largest[first + i] = found;
    }
}

// The sums of `[count, items]` parts are added to a parameter.
KERNEL add_totals(double factor, const double *parts, Long count, float *out, Long items) {
    EACH(i) {
        double total = 0;
        for (Long part = 0; part < count; part++) total += parts[part * items + i];
        out[i] += (float)(factor * total);
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

// The largest of a part of an image's logits, and the sum of exp(x - largest) over that part; an item is a part, of `count` an
// image, which takes every `count`-th class.
KERNEL logit_parts(const float *logits, Long classes, Long count, double *parts, Long items) {
    EACH(i) {
        const float *x = logits + i / count * classes;
        double largest = x[i % count], total = 0;
        for (Long class_ = i % count; class_ < classes; class_ += count)
            if (!(x[class_] <= largest)) largest = x[class_];
        for (Long class_ = i % count; class_ < classes; class_ += count) total += exp(x[class_] - largest);
        parts[2 * i] = largest;
        parts[2 * i + 1] = total;
    }
}

// Cross-entropy of an image, to the places from `first` on, and its largest logit and sum of exp(x - largest), from the parts. Of
// each image `targets` has three numbers: a class, another one, and the first one's weight in the target; the other has the rest.
KERNEL cross_entropy(const float *logits, const float *targets, Long classes, Long count, const double *parts, Long first,
                     double *sums, double *losses, Long items) {
    EACH(image) {
        const float *x = logits + image * classes, *target = targets + 3 * image;
        const double *part = parts + 2 * count * image;
        double largest = part[0], total = 0;
        for (Long k = 1; k < count; k++)
            if (!(part[2 * k] <= largest)) largest = part[2 * k];
        for (Long k = 0; k < count; k++) total += part[2 * k + 1] * exp(part[2 * k] - largest);
        double weight = target[2], rest = 1 - weight;
        sums[2 * image] = largest;
        sums[2 * image + 1] = total;
        losses[first + image] = largest + log(total) - (weight * x[(Long)target[0]] + rest * x[(Long)target[1]]);
    }
}

// dlogits = factor (softmax - target); an item is a logit.
KERNEL cross_entropy_gradient(const float *logits, const float *targets, Long classes, double factor, const double *sums,
                              float *dlogits, Long items) {
    EACH(i) {
        Long image = i / classes, class_ = i % classes;
        const float *target = targets + 3 * image;
        double weight = target[2], rest = 1 - weight;
        double share = exp(logits[i] - sums[2 * image]) / sums[2 * image + 1];
        dlogits[i] = (float)(factor * (share - (weight * (class_ == (Long)target[0]) + rest * (class_ == (Long)target[1]))));
    }
}

// --- norms ------------------------------------------------------------------------------------------------------------

// Of each row <v, v> and <v, w>, in `count` parts; an item is a part, which takes every `count`-th value.
KERNEL row_products(const float *v, const float *w, Long patch, Long count, double *parts, Long items) {
    EACH(i) {
        const float *a = v + i / count * patch, *b = w + i / count * patch;
        double squares = 0, dot = 0;
        for (Long k = i % count; k < patch; k += count) {
            squares += (double)a[k] * a[k];
            dot += (double)a[k] * b[k];
        }
        parts[2 * i] = squares;
        parts[2 * i + 1] = dot;
    }
}

// |v| of a row, and <v, w>/|v|.
FUNCTION double norm_of_row(const double *parts, Long row, Long count, double *along) {
    double squares = 0, dot = 0;
    for (Long k = row * count; k < (row + 1) * count; k++) {
        squares += parts[2 * k];
        dot += parts[2 * k + 1];
    }
    double norm = sqrt(squares);
    *along = dot / norm;
    return norm;
}

// w = g v / |v|.
KERNEL weight_norm(const float *g, const float *v, Long patch, Long count, const double *parts, float *w, Long items) {
    EACH(i) {
        double along;
        w[i] = (float)(g[i / patch] / norm_of_row(parts, i / patch, count, &along)) * v[i];
    }
}

// With n = |v| and h = <v, dw>/n: dg = h, dv = g/n (dw - h v/n).
KERNEL weight_norm_adjoint(const float *g, const float *v, const float *dw, Long patch, Long count, const double *parts, float *dg,
                           float *dv, Long items) {
    EACH(i) {
        Long row = i / patch;
        double along, norm = norm_of_row(parts, row, count, &along);
        if (i % patch == 0) dg[row] = (float)along;
        dv[i] = (float)(g[row] / norm * (dw[i] - along / norm * v[i]));
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

// An item is a part of a channel, as above.
KERNEL channel_products(const float *x, const float *y, Long channels, Long positions, Long parts, double *sums, Long items) {
    EACH(i) {
        Long channel = i % channels;
        double sum = 0;
        for (Long p = i / channels; p < positions; p += parts) sum += (double)x[p * channels + channel] * y[p * channels + channel];
        sums[i] = sum;
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

// sum = the parts' sum in their order, which lie `stride` values apart, the first one at `first`.
KERNEL sum_parts(const float *parts, Long first, Long stride, Long count, float *sum, Long items) {
    EACH(i) {
        double all = 0;
        for (Long part = 0; part < count; part++) all += parts[first + part * stride + i];
        sum[i] = (float)all;
    }
}
