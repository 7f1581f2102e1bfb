/* Pixels to a job's bytes, a result's bytes to logits, by the model's numbers. */
#include <string.h>
#include "vitforge.h"

/* Where byte `at` of an image's logical bytes (beat after beat) lies: every master has its own run of a stripe. */
static size_t striped(const struct vf_model *m, size_t at)
{
    size_t beat = at / m->beat_bytes, inside = at % m->beat_bytes, beats = m->run_bytes / 16;
    return (beat / beats) * m->run_bytes * m->masters + (inside / 16) * m->run_bytes + (beat % beats) * 16 + inside % 16;
}

static int8_t stored(const struct vf_model *m, uint8_t pixel)
{
    double q = pixel / m->scale + 0.5;
    long value = (long)q - (q < (long)q) + m->zero_point; /* floor */
    return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
}

void vf_pack_image(const struct vf_model *m, const uint8_t *pixels, uint8_t *out)
{
    uint32_t k = m->kernel, depth = m->channels * k * k, blocks = (depth + m->word - 1) / m->word;
    uint32_t groups = (m->columns + m->cores - 1) / m->cores;
    size_t row_bytes = (size_t)m->cores * m->word;
    size_t padded = (row_bytes + m->beat_bytes - 1) / m->beat_bytes * m->beat_bytes;
    int8_t table[256];
    int32_t i;
    for (i = 0; i < 256; i++)
        table[i] = stored(m, (uint8_t)i);
    memset(out, 0, m->image_stride);
    for (uint32_t row = 0; row < m->rows; row++) {
        for (uint32_t column = 0; column < m->columns; column++) {
            /* tokens lie row by row over the image, whatever rows and columns the hardware makes of them */
            uint32_t side = (m->width + 2 * m->padding - k) / m->stride + 1, token = row * m->columns + column;
            int32_t top = (int32_t)(token / side * m->stride) - (int32_t)m->padding;
            int32_t left = (int32_t)(token % side * m->stride) - (int32_t)m->padding;
            uint32_t group = row * groups + column / m->cores, lane = column % m->cores;
            for (uint32_t n = 0; n < depth; n++) {
                uint32_t colour = n / (k * k);
                int32_t y = top + (int32_t)(n / k % k), x = left + (int32_t)(n % k);
                int inside = y >= 0 && x >= 0 && y < (int32_t)m->height && x < (int32_t)m->width;
                size_t at = ((size_t)group * blocks + n / m->word) * padded + lane * m->word + n % m->word;
                int8_t value = m->pad[colour];
                if (inside)
                    value = table[pixels[((size_t)y * m->width + (size_t)x) * m->channels + colour]];
                out[striped(m, at)] = (uint8_t)value;
            }
        }
    }
}

void vf_unpack_logits(const struct vf_model *m, const uint8_t *result, double *logits)
{
    for (uint32_t n = 0; n < m->classes; n++) {
        const uint8_t *low = result + (size_t)(n / m->out_word) * m->planes * m->out_word + n % m->out_word;
        int32_t value = (int8_t)low[(m->planes - 1) * m->out_word];
        if (m->planes == 2)
            value = value * 256 + low[0];
        logits[n] = (value - m->out_zero_point) * m->out_scale;
    }
}
