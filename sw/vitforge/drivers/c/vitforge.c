/* The accelerator: load a program, queue jobs, wait for their statuses, recover. */
#include <stdio.h>
#include <string.h>
#include "vitforge.h"

enum { ENABLE = 1, SOFT_RESET = 2, BOTH = 3 };

static uint32_t get(struct vf_device *d, uint32_t reg)
{
    return d->system->read(d->system->context, reg);
}

static void put(struct vf_device *d, uint32_t reg, uint32_t value)
{
    d->system->write(d->system->context, reg, value);
}

static void put64(struct vf_device *d, uint32_t low, uint64_t value)
{
    put(d, low, (uint32_t)value);
    put(d, low + 4, (uint32_t)(value >> 32));
}

static uint64_t now(struct vf_device *d)
{
    return d->system->now_us(d->system->context);
}

static uint64_t after(struct vf_device *d, uint64_t us)
{
    uint64_t at = now(d);
    return us > UINT64_MAX - at ? UINT64_MAX : at + us;
}

static enum vf_result fail(struct vf_device *d, enum vf_result result, const char *what)
{
    d->what = what;
    return result;
}

static void note_errors(struct vf_device *d, uint32_t errors)
{
    d->errors = errors;
    d->status = get(d, VF_REG_STATUS);
    d->error_addr = get(d, VF_REG_ERROR_ADDR_LO) | (uint64_t)get(d, VF_REG_ERROR_ADDR_HI) << 32;
    d->error_resp = get(d, VF_REG_ERROR_RESP);
}

static void forget(struct vf_device *d)
{
    d->first = d->used = d->owed = d->started = 0;
}

static enum vf_result refused(struct vf_device *d, const char *what)
{
    note_errors(d, get(d, VF_REG_ERRORS));
    put(d, VF_REG_ERRORS, d->errors);
    return fail(d, VF_REFUSED, what);
}

static enum vf_result timed_out(struct vf_device *d, const char *what)
{
    note_errors(d, get(d, VF_REG_ERRORS));
    return fail(d, VF_TIMEOUT, what);
}

static int differs(struct vf_device *d, const char *what, uint32_t found, uint32_t wanted)
{
    d->what = what;
    d->found = found;
    d->wanted = wanted;
    return found != wanted;
}

enum vf_result vf_open(struct vf_device *d, const struct vf_system *system, const struct vf_model *m)
{
    memset(d, 0, sizeof *d);
    d->system = system;
    d->model = m;
    if (differs(d, "register id", get(d, VF_REG_ID), m->ident)
        || differs(d, "register version", get(d, VF_REG_VERSION), m->version)
        || differs(d, "register config_hash", get(d, VF_REG_CONFIG_HASH), m->config_hash)
        || differs(d, "register build_hash", get(d, VF_REG_BUILD_HASH), m->build_hash))
        return VF_MISMATCH;
    uint32_t shape = get(d, VF_REG_CAPABILITIES);
    uint32_t masters = (shape & VF_CAPABILITIES_MASTERS_MASK) >> VF_CAPABILITIES_MASTERS_SHIFT;
    if (differs(d, "number of masters", masters, m->masters))
        return VF_MISMATCH;
    if (m->job_lag > 1)
        return differs(d, "jobs by which results are late", m->job_lag, 1), VF_MISMATCH;
    d->depth = (shape & VF_CAPABILITIES_JOB_DEPTH_MASK) >> VF_CAPABILITIES_JOB_DEPTH_SHIFT;
    if (d->depth > VF_MAX_JOBS)
        d->depth = VF_MAX_JOBS;
    return VF_OK;
}

enum vf_result vf_buffers(struct vf_device *d, uint32_t index, struct vf_buffer image, struct vf_buffer result)
{
    if (index >= d->depth || image.bytes < d->model->job_image_bytes || result.bytes < d->model->job_result_bytes)
        return fail(d, VF_ARGUMENT, "slot's number or its buffers' sizes");
    if (image.bus % VF_ALIGNMENT || result.bus % VF_ALIGNMENT)
        return fail(d, VF_ARGUMENT, "buffers must lie at multiples of 4096");
    d->slots[index].image = image;
    d->slots[index].result = result;
    return VF_OK;
}

static uint32_t word(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint32_t crc32(const uint8_t *bytes, size_t count) /* that of zlib and Ethernet */
{
    static const uint32_t of_nibble[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ of_nibble[crc & 15];
        crc = crc >> 4 ^ of_nibble[crc & 15];
    }
    return ~crc;
}

enum vf_result vf_start(struct vf_device *d, const struct vf_buffer *image, uint64_t timeout_us)
{
    const struct vf_model *m = d->model;
    if (differs(d, "memory image's length", (uint32_t)image->bytes, m->image_bytes)
        || differs(d, "memory image's magic", word(image->cpu), m->magic)
        || differs(d, "memory image's config_hash", word(image->cpu + 4), m->config_hash)
        || differs(d, "memory image's build_hash", word(image->cpu + 8), m->build_hash)
        || differs(d, "memory image's CRC-32", crc32(image->cpu, image->bytes), m->image_crc32))
        return VF_MISMATCH;
    return vf_load(d, image, timeout_us);
}

enum vf_result vf_load(struct vf_device *d, const struct vf_buffer *image, uint64_t timeout_us)
{
    if (image->bus % VF_ALIGNMENT || !d->slots[d->depth - 1].image.cpu)
        return fail(d, VF_ARGUMENT, "memory image's alignment, or a slot without buffers");
    enum vf_result stopped = vf_stop(d, timeout_us); /* a program is taken over when enable is set */
    if (stopped != VF_OK)
        return stopped;
    d->system->flush(d->system->context, image);
    put64(d, VF_REG_PROGRAM_LO, image->bus);
    put(d, VF_REG_PROGRAM_BEATS, d->model->program_beats);
    put(d, VF_REG_ERRORS, get(d, VF_REG_ERRORS));
    while (get(d, VF_REG_DONE_COUNT)) /* of jobs before */
        put(d, VF_REG_DONE_POP, 1);
    put(d, VF_REG_IRQ_STATUS, BOTH);
    put(d, VF_REG_IRQ_ENABLE, BOTH);
    put(d, VF_REG_JOB_IMAGE_STRIDE, 0);
    put(d, VF_REG_JOB_RESULT_STRIDE, 0);
    put(d, VF_REG_CONTROL, ENABLE);
    uint64_t end = after(d, timeout_us);
    while (!(get(d, VF_REG_STATUS) & VF_STATUS_READY_MASK)) {
        if (get(d, VF_REG_ERRORS) & ~VF_ERRORS_STRAY_MASK)
            return refused(d, "program refused");
        if (now(d) > end)
            return timed_out(d, "program is not loaded");
        d->system->wait_us(d->system->context, 10);
    }
    if (get(d, VF_REG_ERRORS) & ~VF_ERRORS_STRAY_MASK)
        return refused(d, "program refused");
    put(d, VF_REG_ERRORS, VF_ERRORS_STRAY_MASK);
    d->started = 1;
    return VF_OK;
}

enum vf_result vf_submit(struct vf_device *d, const uint8_t *pixels, uint32_t *number)
{
    const struct vf_model *m = d->model;
    if (!d->started)
        return fail(d, VF_ARGUMENT, "not started");
    if (d->used == d->depth || get(d, VF_REG_JOB_FREE) == 0)
        return fail(d, VF_QUEUE_FULL, "queue full");
    struct vf_slot *slot = &d->slots[(d->first + d->used) % d->depth];
    for (uint32_t i = 0; i < m->job_images; i++)
        vf_pack_image(m, pixels + (size_t)i * m->height * m->width * m->channels,
                      slot->image.cpu + (size_t)i * m->image_stride);
    d->system->flush(d->system->context, &slot->image);
    d->system->flush(d->system->context, &slot->result); /* no line of it may be written back later */
    slot->number = get(d, VF_REG_JOB_NUMBER);
    put64(d, VF_REG_JOB_IMAGE_LO, slot->image.bus);
    put64(d, VF_REG_JOB_RESULT_LO, slot->result.bus);
    put(d, VF_REG_JOB_SUBMIT, 1);
    if (get(d, VF_REG_JOB_NUMBER) == slot->number)
        return refused(d, "job refused");
    d->used++;
    if (number)
        *number = slot->number;
    return VF_OK;
}

static enum vf_result next_status(struct vf_device *d, uint64_t end, struct vf_slot **slot)
{
    while (!get(d, VF_REG_DONE_COUNT)) {
        uint64_t at = now(d);
        if (at >= end)
            return timed_out(d, "job is not done");
        d->system->wait_us(d->system->context, end - at);
        put(d, VF_REG_IRQ_STATUS, BOTH);
    }
    *slot = &d->slots[d->first];
    uint32_t job = get(d, VF_REG_DONE_JOB), errors = get(d, VF_REG_DONE_ERRORS);
    d->first = (d->first + 1) % d->depth;
    d->used--;
    put(d, VF_REG_DONE_POP, 1);
    if (differs(d, "job's number", job, (*slot)->number))
        return VF_MISMATCH;
    if (errors) {
        note_errors(d, errors);
        put(d, VF_REG_ERRORS, errors);
        return fail(d, VF_JOB_FAILED, "job failed");
    }
    return VF_OK;
}

enum vf_result vf_wait(struct vf_device *d, double *logits, uint64_t timeout_us, uint32_t *number)
{
    const struct vf_model *m = d->model;
    struct vf_slot *slot;
    uint64_t end = after(d, timeout_us);
    uint32_t ready, job;
    do {
        if (!d->used)
            return fail(d, VF_ARGUMENT, d->owed ? "its logits come with the next job: submit one" : "no job is under way");
        enum vf_result result = next_status(d, end, &slot);
        if (result == VF_TIMEOUT)
            return result;
        if (number)
            *number = slot->number;
        if (result != VF_OK) {
            d->owed = 0;
            return result;
        }
        ready = m->job_lag ? d->owed : 1;
        job = m->job_lag ? d->owed_number : slot->number;
        d->owed = m->job_lag;
        d->owed_number = slot->number;
    } while (!ready);
    if (number)
        *number = job;
    d->system->invalidate(d->system->context, &slot->result);
    for (uint32_t i = 0; i < m->job_images; i++)
        vf_unpack_logits(m, slot->result.cpu + (size_t)i * m->result_stride, logits + (size_t)i * m->classes);
    return VF_OK;
}

static enum vf_result until_zero(struct vf_device *d, uint32_t reg, uint32_t mask, uint64_t timeout_us, const char *what)
{
    uint64_t end = after(d, timeout_us);
    forget(d);
    while (get(d, reg) & mask) {
        if (now(d) > end)
            return timed_out(d, what);
        d->system->wait_us(d->system->context, 10);
    }
    return VF_OK;
}

enum vf_result vf_stop(struct vf_device *d, uint64_t timeout_us)
{
    put(d, VF_REG_CONTROL, 0);
    return until_zero(d, VF_REG_STATUS, VF_STATUS_STOPPING_MASK, timeout_us, "does not stop");
}

enum vf_result vf_reset(struct vf_device *d, uint64_t timeout_us)
{
    put(d, VF_REG_CONTROL, SOFT_RESET);
    return until_zero(d, VF_REG_CONTROL, 0xffffffffu, timeout_us, "soft reset does not end");
}

uint32_t vf_set_clock_khz(struct vf_device *d, uint32_t khz)
{
    return d->system->set_clock_khz ? d->system->set_clock_khz(d->system->context, khz) : 0;
}

void vf_describe(const struct vf_device *d, enum vf_result result, char *text, size_t size)
{
    static const char *const errors[] = VF_ERROR_TEXTS;
    size_t at = 0;
#define SAY(...) (at += at < size ? (size_t)snprintf(text + at, size - at, __VA_ARGS__) : 0)
    SAY("%s", result == VF_OK ? "ok" : d->what);
    if (result == VF_MISMATCH)
        SAY(": must be 0x%08x, is 0x%08x", d->wanted, d->found);
    if (result == VF_QUEUE_FULL)
        SAY(": %u jobs are under way", d->used);
    if (result == VF_REFUSED || result == VF_JOB_FAILED || result == VF_TIMEOUT) {
        for (uint32_t code = 1; code < VF_ERROR_COUNT; code++)
            if (d->errors >> code & 1)
                SAY("; %s", errors[code]);
        if (d->errors)
            SAY("; first at 0x%08x%08x, response %u", (unsigned)(d->error_addr >> 32), (unsigned)d->error_addr,
                d->error_resp);
        SAY("; status:%s%s%s%s%s", d->status & VF_STATUS_BUSY_MASK ? " busy" : "",
            d->status & VF_STATUS_READY_MASK ? " ready" : "", d->status & VF_STATUS_ERROR_MASK ? " error" : "",
            d->status & VF_STATUS_ACTIVE_MASK ? " active" : "", d->status & VF_STATUS_STOPPING_MASK ? " stopping" : "");
    }
#undef SAY
}
