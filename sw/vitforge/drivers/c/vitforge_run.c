/* Classifies images on Linux: an example of the driver, and a first test of a board (docs/package.md).
 *
 *     cc -O2 -o vitforge_run vitforge*.c
 *     ./vitforge_run /dev/uio0 udmabuf0 memory.bin image.raw ...
 *
 * A file holds the pixels of one job: uint8 height * width * channels for each of its images.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vitforge_system.h"

extern const struct vf_model vitforge_model; /* vitforge_model.c, generated */
extern const char *const vitforge_labels[];

#define TIMEOUT_US 2000000u

static struct vf_device device;

static int say(const char *subject, const char *text)
{
    fprintf(stderr, "vitforge_run: %s: %s\n", subject, text);
    return 1;
}

static int failed(const char *subject, enum vf_result result)
{
    char text[1000];
    vf_describe(&device, result, text, sizeof text);
    return say(subject, text);
}

static int load(const char *path, uint8_t *bytes, size_t count)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return say(path, strerror(errno));
    size_t got = fread(bytes, 1, count, file);
    int more = fgetc(file) != EOF;
    fclose(file);
    return got == count && !more ? 0 : say(path, "has another length than the model needs");
}

static void print(const char *path, const double *logits)
{
    const struct vf_model *m = &vitforge_model;
    for (uint32_t image = 0; image < m->job_images; image++, logits += m->classes) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < m->classes; i++)
            if (logits[i] > logits[best])
                best = i;
        printf("%s %u: class %u %s, logit %.4f\n", path, image, best, vitforge_labels[0][0] ? vitforge_labels[best] : "",
               logits[best]);
    }
}

static int classify(char **paths, int count)
{
    const struct vf_model *m = &vitforge_model;
    size_t size = (size_t)m->job_images * m->height * m->width * m->channels;
    uint8_t *pixels = calloc(size, 1);
    double *logits = calloc((size_t)m->job_images * m->classes, sizeof *logits);
    int bad = !pixels || !logits ? say("memory", strerror(errno)) : 0, lag = (int)m->job_lag;
    for (int i = 0; !bad && i < count + lag; i++) { /* where logits come a job later: the last one twice */
        if (i < count && (bad = load(paths[i], pixels, size)))
            break;
        enum vf_result result = vf_submit(&device, pixels, NULL);
        if (result == VF_OK && i >= lag)
            result = vf_wait(&device, logits, TIMEOUT_US, NULL);
        if (result != VF_OK)
            bad = failed(paths[i < count ? i : count - 1], result);
        else if (i >= lag)
            print(paths[i - lag], logits);
    }
    free(pixels);
    free(logits);
    return bad;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: vitforge_run UIO-DEVICE U-DMA-BUF-NAME MEMORY-IMAGE PIXELS...\n");
        return 2;
    }
    const struct vf_model *m = &vitforge_model;
    struct vf_uio uio;
    struct vf_system system;
    char memory[80], folder[120];
    snprintf(memory, sizeof memory, "/dev/%s", argv[2]);
    snprintf(folder, sizeof folder, "/sys/class/u-dma-buf/%s", argv[2]);
    if (vf_uio_open(&uio, argv[1], memory, folder, NULL)) {
        fprintf(stderr, "vitforge_run: %s, %s or %s: %s\n", argv[1], memory, folder, strerror(errno));
        return 1;
    }
    vf_uio_system(&uio, &system);
    enum vf_result result = vf_open(&device, &system, m);
    if (result != VF_OK)
        return failed(argv[1], result);
    struct vf_buffer image = vf_uio_allocate(&uio, m->image_bytes);
    int room = image.cpu != NULL;
    for (uint32_t i = 0; room && i < device.depth; i++) {
        struct vf_buffer in = vf_uio_allocate(&uio, m->job_image_bytes), out = vf_uio_allocate(&uio, m->job_result_bytes);
        room = in.cpu && out.cpu;
        if (room && (result = vf_buffers(&device, i, in, out)) != VF_OK)
            return failed("buffers", result);
    }
    if (!room)
        return say(argv[2], "too small for the memory image and the jobs");
    image.bytes = m->image_bytes;
    if (load(argv[3], image.cpu, image.bytes))
        return 1;
    result = vf_start(&device, &image, TIMEOUT_US);
    int bad = result == VF_OK ? classify(argv + 4, argc - 4) : failed(argv[3], result);
    if (result == VF_OK)
        vf_stop(&device, TIMEOUT_US);
    vf_uio_close(&uio);
    return bad;
}
