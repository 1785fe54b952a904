#include "ring.h"

#include <stdlib.h>
#include <string.h>

struct ring {
    size_t size;
    size_t start;
    size_t used;
    unsigned char bytes[];
};

static size_t least(size_t left, size_t right)
{
    return left < right ? left : right;
}

struct ring *ring_new(size_t size)
{
    struct ring *ring;

    if (size == 0 || size > (size_t)-1 / 2)
        return NULL;
    ring = malloc(sizeof *ring + size);
    if (ring == NULL)
        return NULL;
    ring->size = size;
    ring->start = 0;
    ring->used = 0;
    return ring;
}

void ring_free(struct ring *ring)
{
    free(ring);
}

size_t ring_write(struct ring *ring, const void *bytes, size_t length)
{
    size_t end = (ring->start + ring->used) % ring->size;
    size_t first;

    length = least(length, ring->size - ring->used);
    first = least(length, ring->size - end);
    if (first > 0)
        memcpy(ring->bytes + end, bytes, first);
    if (length > first)
        memcpy(ring->bytes, (const unsigned char *)bytes + first, length - first);
    ring->used += length;
    return length;
}

size_t ring_read(struct ring *ring, void *bytes, size_t length)
{
    size_t first;

    length = least(length, ring->used);
    first = least(length, ring->size - ring->start);
    if (first > 0)
        memcpy(bytes, ring->bytes + ring->start, first);
    if (length > first)
        memcpy((unsigned char *)bytes + first, ring->bytes, length - first);
    ring->start = (ring->start + length) % ring->size;
    ring->used -= length;
    return length;
}

size_t ring_used(const struct ring *ring)
{
    return ring->used;
}
