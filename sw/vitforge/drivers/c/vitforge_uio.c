/* struct vf_system on Linux: UIO for registers and interrupt, u-dma-buf for memory. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "vitforge_system.h"

static int read_number(const char *path, const char *format, unsigned long long *value)
{
    FILE *file = fopen(path, "r");
    int got = file ? fscanf(file, format, value) : 0;
    if (file)
        fclose(file);
    return got == 1 ? 0 : -1;
}

static int write_number(const char *path, unsigned long long value)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return -1;
    int bad = fprintf(file, "%llu\n", value) < 0;
    return fclose(file) || bad ? -1 : 0;
}

int vf_uio_open(struct vf_uio *uio, const char *device, const char *memory, const char *folder, const char *clock)
{
    char path[160];
    unsigned long long bus = 0, bytes = 0;
    memset(uio, 0, sizeof *uio);
    snprintf(uio->folder, sizeof uio->folder, "%s", folder);
    snprintf(uio->clock, sizeof uio->clock, "%s", clock ? clock : "");
    uio->fd = open(device, O_RDWR);
    uio->memory_fd = open(memory, O_RDWR);
    snprintf(path, sizeof path, "%s/phys_addr", folder);
    int bad = uio->fd < 0 || uio->memory_fd < 0 || read_number(path, "%llx", &bus);
    snprintf(path, sizeof path, "%s/size", folder);
    if (bad || read_number(path, "%llu", &bytes))
        return -1;
    uio->bus = bus;
    uio->bytes = (size_t)bytes;
    void *registers = mmap(NULL, VF_SPAN, PROT_READ | PROT_WRITE, MAP_SHARED, uio->fd, 0);
    void *data = mmap(NULL, uio->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, uio->memory_fd, 0);
    if (registers == MAP_FAILED || data == MAP_FAILED)
        return -1;
    uio->registers = registers;
    uio->memory = data;
    return 0;
}

struct vf_buffer vf_uio_allocate(struct vf_uio *uio, size_t bytes)
{
    struct vf_buffer buffer = {NULL, 0, 0};
    size_t whole = (bytes + VF_ALIGNMENT - 1) / VF_ALIGNMENT * VF_ALIGNMENT;
    if (whole > uio->bytes - uio->taken)
        return buffer;
    buffer.cpu = uio->memory + uio->taken;
    buffer.bus = uio->bus + uio->taken;
    buffer.bytes = bytes;
    uio->taken += whole;
    return buffer;
}

static uint32_t read_register(void *context, uint32_t offset)
{
    return ((struct vf_uio *)context)->registers[offset / 4];
}

static void write_register(void *context, uint32_t offset, uint32_t value)
{
    ((struct vf_uio *)context)->registers[offset / 4] = value;
}

/* u-dma-buf synchronises the range that its files name. */
static void synchronise(struct vf_uio *uio, const struct vf_buffer *buffer, const char *to)
{
    char path[160];
    const struct { const char *name; unsigned long long value; } steps[] = {
        {"sync_offset", (unsigned long long)(buffer->cpu - uio->memory)}, {"sync_size", buffer->bytes},
        {"sync_direction", 0}, {to, 1},
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        snprintf(path, sizeof path, "%s/%s", uio->folder, steps[i].name);
        write_number(path, steps[i].value);
    }
}

static void flush(void *context, const struct vf_buffer *buffer)
{
    synchronise(context, buffer, "sync_for_device");
}

static void invalidate(void *context, const struct vf_buffer *buffer)
{
    synchronise(context, buffer, "sync_for_cpu");
}

static uint64_t now_us(void *context)
{
    struct timespec t;
    (void)context;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void wait_us(void *context, uint64_t us)
{
    struct vf_uio *uio = context;
    struct pollfd one = {uio->fd, POLLIN, 0};
    uint32_t value = 1;
    if (write(uio->fd, &value, sizeof value) != sizeof value) /* allow the interrupt again */
        return;
    if (poll(&one, 1, us / 1000u < INT_MAX ? (int)(us / 1000u) + 1 : -1) > 0 && read(uio->fd, &value, sizeof value) != sizeof value)
        return;
}

static uint32_t set_clock_khz(void *context, uint32_t khz)
{
    struct vf_uio *uio = context;
    unsigned long long hz = 0;
    if (!uio->clock[0] || write_number(uio->clock, khz * 1000ull) || read_number(uio->clock, "%llu", &hz))
        return 0;
    return (uint32_t)(hz / 1000u);
}

void vf_uio_system(struct vf_uio *uio, struct vf_system *system)
{
    struct vf_system own = {uio, read_register, write_register, flush, invalidate, now_us, wait_us, set_clock_khz};
    *system = own;
}

void vf_uio_close(struct vf_uio *uio)
{
    munmap((void *)uio->registers, VF_SPAN);
    munmap(uio->memory, uio->bytes);
    close(uio->fd);
    close(uio->memory_fd);
}
