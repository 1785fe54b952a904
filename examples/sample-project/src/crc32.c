/* Prints the CRC-32 of standard input as eight hexadecimal digits. */

#include <stdint.h>
#include <stdio.h>

enum { POLYNOMIAL_BITS = 8, TABLE_SIZE = 256, BLOCK_SIZE = 65536 };

static const uint32_t POLYNOMIAL = 0xEDB88320u;

static void fill(uint32_t table[TABLE_SIZE])
{
    for (uint32_t byte = 0; byte < TABLE_SIZE; byte++) {
        uint32_t rest = byte;
        for (int bit = 0; bit < POLYNOMIAL_BITS; bit++)
            rest = rest & 1 ? rest >> 1 ^ POLYNOMIAL : rest >> 1;
        table[byte] = rest;
    }
}

int main(void)
{
    static uint32_t table[TABLE_SIZE];
    static unsigned char block[BLOCK_SIZE];
    uint32_t sum = 0xFFFFFFFFu;
    size_t length;

    fill(table);
    while ((length = fread(block, 1, sizeof block, stdin)) > 0)
        for (size_t at = 0; at < length; at++)
            sum = sum >> 8 ^ table[(sum ^ block[at]) & 0xFF];
    if (ferror(stdin)) {
        perror("crc32");
        return 1;
    }
    printf("%08x\n", (unsigned)(sum ^ 0xFFFFFFFFu));
    return 0;
}
