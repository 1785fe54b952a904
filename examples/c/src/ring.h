/* A ring of bytes: first in, first out, never more than its size. One reader and one writer in one thread. */

#ifndef RING_H
#define RING_H

#include <stddef.h>

struct ring;

/* A ring of `size` bytes, or NULL where there is no memory or `size` is 0. */
struct ring *ring_new(size_t size);
void ring_free(struct ring *ring);

/* How many bytes were taken; fewer than `length` when the ring is full. */
size_t ring_write(struct ring *ring, const void *bytes, size_t length);

/* How many bytes were given; fewer than `length` when the ring is empty. */
size_t ring_read(struct ring *ring, void *bytes, size_t length);

size_t ring_used(const struct ring *ring);

#endif
