/* Tests without a framework: each line says what holds, a failed one ends the program with 1. */

#include "ring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int number;
static int failed;

static void holds(int truth, const char *what)
{
    number++;
    failed += !truth;
    printf("%sok %d - %s\n", truth ? "" : "not ", number, what);
}

static void bytes_come_out_in_order(void)
{
    struct ring *ring = ring_new(8);
    char out[8] = {0};

    ring_write(ring, "abc", 3);
    ring_write(ring, "de", 2);
    holds(ring_read(ring, out, 8) == 5 && memcmp(out, "abcde", 5) == 0, "bytes come out in order");
    ring_free(ring);
}

static void a_full_ring_takes_no_more(void)
{
    struct ring *ring = ring_new(4);

    holds(ring_write(ring, "abcdef", 6) == 4, "a write is cut at the size");
    holds(ring_write(ring, "g", 1) == 0, "a full ring takes no more");
    holds(ring_used(ring) == 4, "and says so");
    ring_free(ring);
}

static void nothing_is_a_size_of_its_own(void)
{
    holds(ring_new(0) == NULL, "there is no ring of no bytes");
    holds(ring_new((size_t)-1) == NULL, "nor one of all bytes");
}

/* Every write and read of random length against a counter: byte n of the stream is n modulo 251. */
static void the_stream_is_whole(size_t size)
{
    struct ring *ring = ring_new(size);
    unsigned long written = 0, read = 0, state = size;
    unsigned char bytes[64];
    int whole = 1;

    for (int step = 0; step < 20000; step++) {
        size_t length, done;

        state = state * 6364136223846793005ul + 1442695040888963407ul;
        length = state >> 58;
        if (state >> 57 & 1) {
            for (size_t at = 0; at < length; at++)
                bytes[at] = (written + at) % 251;
            written += ring_write(ring, bytes, length);
        } else {
            done = ring_read(ring, bytes, length);
            for (size_t at = 0; at < done; at++)
                whole &= bytes[at] == (read + at) % 251;
            read += done;
        }
        whole &= ring_used(ring) == written - read;
    }
    holds(whole, "a long stream is whole");
    ring_free(ring);
}

int main(void)
{
    bytes_come_out_in_order();
    a_full_ring_takes_no_more();
    nothing_is_a_size_of_its_own();
    the_stream_is_whole(1);
    the_stream_is_whole(7);
    the_stream_is_whole(64);
    printf("1..%d\n", number);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
