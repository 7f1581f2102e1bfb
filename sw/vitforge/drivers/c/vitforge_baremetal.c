/* struct vf_system without an operating system: waits by polling irq_status. */
#include "vitforge_system.h"

static uint32_t read_register(void *context, uint32_t offset)
{
    return *(volatile uint32_t *)(((struct vf_baremetal *)context)->base + offset);
}

static void write_register(void *context, uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(((struct vf_baremetal *)context)->base + offset) = value;
}

static void flush(void *context, const struct vf_buffer *buffer)
{
    ((struct vf_baremetal *)context)->flush_range((uintptr_t)buffer->cpu, buffer->bytes);
}

static void invalidate(void *context, const struct vf_buffer *buffer)
{
    ((struct vf_baremetal *)context)->invalidate_range((uintptr_t)buffer->cpu, buffer->bytes);
}

static uint64_t now_us(void *context)
{
    return ((struct vf_baremetal *)context)->time_us();
}

static void wait_us(void *context, uint64_t us)
{
    uint64_t end = now_us(context) + us;
    while (!read_register(context, VF_REG_IRQ_STATUS) && now_us(context) < end)
        ;
}

static uint32_t set_clock_khz(void *context, uint32_t khz)
{
    struct vf_baremetal *board = context;
    return board->set_clock_khz ? board->set_clock_khz(khz) : 0;
}

void vf_baremetal_system(struct vf_baremetal *board, struct vf_system *system)
{
    struct vf_system own = {board, read_register, write_register, flush, invalidate, now_us, wait_us, set_clock_khz};
    *system = own;
}
