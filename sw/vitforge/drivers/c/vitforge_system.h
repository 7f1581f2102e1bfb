/* Two systems for struct vf_system. */
#ifndef VITFORGE_SYSTEM_H
#define VITFORGE_SYSTEM_H

#include "vitforge.h"

/* Bare metal: registers at `base`; time and cache maintenance are the board support package's, e.g.
 * Xil_DCacheFlushRange, Xil_DCacheInvalidateRange, XTime_GetTime. */
struct vf_baremetal {
    uintptr_t base;
    void (*flush_range)(uintptr_t address, size_t bytes);
    void (*invalidate_range)(uintptr_t address, size_t bytes);
    uint64_t (*time_us)(void);
    uint32_t (*set_clock_khz)(uint32_t khz); /* may be NULL */
};
void vf_baremetal_system(struct vf_baremetal *board, struct vf_system *system);

/* Linux: registers and interrupt by a UIO device, memory by u-dma-buf, the clock by a sysfs file (fclkcfg or the like).
 * Paths: "/dev/uio4"; "/dev/udmabuf0" with its folder in sysfs "/sys/class/u-dma-buf/udmabuf0". */
struct vf_uio {
    int fd, memory_fd;
    volatile uint32_t *registers;
    uint8_t *memory;
    uint64_t bus;
    size_t bytes, taken;
    char folder[128], clock[128];
};
/* 0, or -1 with errno. clock: path of a file that holds the rate in Hz, or NULL. */
int vf_uio_open(struct vf_uio *uio, const char *device, const char *memory, const char *folder, const char *clock);
/* A piece of the contiguous memory; cpu is NULL when it is used up. */
struct vf_buffer vf_uio_allocate(struct vf_uio *uio, size_t bytes);
void vf_uio_system(struct vf_uio *uio, struct vf_system *system);
void vf_uio_close(struct vf_uio *uio);

#endif
