/* Driver of a vitforge accelerator: C99, no library but string.h and stdio.h (snprintf), bare metal or Linux.
 *
 * The system offers struct vf_system (registers, cache maintenance, time, clock); vitforge_baremetal.c and
 * vitforge_uio.c have two. The model comes as struct vf_model, which `vitforge package` writes from build.json
 * (vitforge_model.c); the driver knows nothing else. What can fail returns enum vf_result.
 */
#ifndef VITFORGE_H
#define VITFORGE_H

#include <stddef.h>
#include <stdint.h>
#include "vitforge_regs.h"

#ifdef __cplusplus
extern "C" {
#endif

enum vf_result {
    VF_OK = 0,
    VF_MISMATCH,     /* record, memory image and hardware do not belong together; nothing was started */
    VF_REFUSED,      /* the hardware refuses the program or the job: device.errors */
    VF_QUEUE_FULL,   /* no job slot is free; nothing was submitted */
    VF_JOB_FAILED,   /* the job's result is not valid: device.errors; the next job is not concerned */
    VF_TIMEOUT,      /* nothing came in time: device.errors, device.status; vf_reset recovers */
    VF_ARGUMENT      /* not started, no job under way, a buffer too small or not aligned; logits that come with a later job */
};

/* Memory of processor and accelerator, aligned to VF_ALIGNMENT; bus: as the accelerator sees it. */
struct vf_buffer {
    uint8_t *cpu;
    uint64_t bus;
    size_t bytes;
};
#define VF_ALIGNMENT 4096u

/* What the system offers. `context` is handed to every function. */
struct vf_system {
    void *context;
    uint32_t (*read)(void *context, uint32_t offset);
    void (*write)(void *context, uint32_t offset, uint32_t value);
    void (*flush)(void *context, const struct vf_buffer *buffer);      /* caches to DRAM */
    void (*invalidate)(void *context, const struct vf_buffer *buffer); /* cached lines dropped */
    uint64_t (*now_us)(void *context);
    void (*wait_us)(void *context, uint64_t us);       /* until the interrupt is high, at most so long */
    uint32_t (*set_clock_khz)(void *context, uint32_t khz); /* asks, returns what the clock is; may be NULL */
};

/* The record of build.json (docs/package.md). */
struct vf_model {
    uint32_t ident, version, config_hash, build_hash, magic, masters;
    uint32_t image_bytes, image_crc32, program_beats;          /* of the memory image */
    uint32_t job_images, job_lag, job_image_bytes, job_result_bytes;
    uint32_t height, width, channels, kernel, stride, padding, rows, columns, cores, word, beat_bytes, run_bytes;
    uint32_t image_stride;
    double scale;
    int32_t zero_point;
    int8_t pad[4];
    uint32_t classes, out_word, planes, result_stride;
    double out_scale;
    int32_t out_zero_point;
};

#define VF_MAX_JOBS 32u

struct vf_slot {
    struct vf_buffer image, result;
    uint32_t number;
};

struct vf_device {
    const struct vf_system *system;
    const struct vf_model *model;
    struct vf_slot slots[VF_MAX_JOBS];
    uint32_t depth, first, used;   /* slots under way: used of them from first on, modulo depth */
    uint32_t started;
    uint32_t owed, owed_number;    /* job_lag 1: whether a job is done whose logits come with the next one; which */
    /* of the last result that is not VF_OK: */
    const char *what;              /* which rule */
    uint32_t errors, status;       /* bits of registers errors (or done_errors) and status */
    uint64_t error_addr;
    uint32_t error_resp, found, wanted;
};

/* Compare identity, version, hashes and shape with the model. VF_MISMATCH: device->what, found, wanted. */
enum vf_result vf_open(struct vf_device *device, const struct vf_system *system, const struct vf_model *model);
/* Slot `index` (0 to device->depth - 1) gets its buffers: job_image_bytes and job_result_bytes at least. */
enum vf_result vf_buffers(struct vf_device *device, uint32_t index, struct vf_buffer image, struct vf_buffer result);
/* Check that the memory image is this model's (first words, CRC-32) and load it; jobs are allowed then. A program that
 * runs is stopped first, its jobs are dropped. Answers to reads from before aresetn (error `stray`) are dropped by the hardware and do not matter. */
enum vf_result vf_start(struct vf_device *device, const struct vf_buffer *memory_image, uint64_t timeout_us);
/* The same without looking at the image: the hardware checks it. */
enum vf_result vf_load(struct vf_device *device, const struct vf_buffer *memory_image, uint64_t timeout_us);
/* Queue one job of model->job_images images, one behind the other: uint8 height * width * channels each. */
enum vf_result vf_submit(struct vf_device *device, const uint8_t *pixels, uint32_t *number);
/* The oldest job whose logits were not given: job_images * classes logits. Where job_lag is 1 a job's logits come with
 * the status of the next job: submit one more (any pixels) behind the last one that counts. A job that fails takes the
 * logits of the one before it with it. */
enum vf_result vf_wait(struct vf_device *device, double *logits, uint64_t timeout_us, uint32_t *number);
/* No more jobs; those that are queued are dropped. */
enum vf_result vf_stop(struct vf_device *device, uint64_t timeout_us);
/* After a time-out; then vf_start again. VF_TIMEOUT: the memory does not answer, only aresetn helps. */
enum vf_result vf_reset(struct vf_device *device, uint64_t timeout_us);
uint32_t vf_set_clock_khz(struct vf_device *device, uint32_t khz);      /* returns what it is; 0: cannot be set */

/* Layouts, without hardware. */
void vf_pack_image(const struct vf_model *model, const uint8_t *pixels, uint8_t *out); /* image_stride bytes */
void vf_unpack_logits(const struct vf_model *model, const uint8_t *result, double *logits); /* classes of one image */

/* Text of what went wrong, for people: at most `size` characters with the closing 0. */
void vf_describe(const struct vf_device *device, enum vf_result result, char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
