/*
 * hash.c - the checksum of engine files.
 *
 * The bytes, zero-padded to whole blocks of 4096, are read as little-endian 64-bit words. Within
 * a block, word i goes to lane i % 8; the eight lanes are then folded into one word, and the
 * block's word into the running state; the length in bytes is folded in last. Everything is made
 * of one step,
 *
 *     mix(state, word) = rotate_left(state ^ word, 29) * MULTIPLIER   (mod 2^64, odd multiplier)
 *
 * which is a bijection in `state` and in `word`, so a change confined to one word always changes
 * the result. It finds accidents; it is no defence against somebody who computes it too.
 */
#include "strop.h"

#include <string.h>

#include "strop_format.h"

#define MULTIPLIER UINT64_C(0x9E3779B97F4A7C15)
#define LANES 8
#define WORDS (STROP_ALIGNMENT / 8)

static inline uint64_t mix(uint64_t state, uint64_t word)
{
    const uint64_t x = state ^ word;

    return ((x << 29) | (x >> 35)) * MULTIPLIER;
}

static inline uint64_t load(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof word);
    return word;
}

/* The lanes are named so that they live in registers: eight scalar multiplications in flight keep
 * ahead of memory on every 64-bit processor, where a vector unit may lack the instruction. */
static uint64_t hash_block(const uint8_t *p)
{
    uint64_t a = 1 * MULTIPLIER, b = 2 * MULTIPLIER, c = 3 * MULTIPLIER, d = 4 * MULTIPLIER;
    uint64_t e = 5 * MULTIPLIER, f = 6 * MULTIPLIER, g = 7 * MULTIPLIER, h = 8 * MULTIPLIER;

    for (int row = 0; row < (int)WORDS / LANES; row++, p += 8 * LANES) {
        a = mix(a, load(p));
        b = mix(b, load(p + 8));
        c = mix(c, load(p + 16));
        d = mix(d, load(p + 24));
        e = mix(e, load(p + 32));
        f = mix(f, load(p + 40));
        g = mix(g, load(p + 48));
        h = mix(h, load(p + 56));
    }
    a = mix(mix(a, b), c);
    d = mix(mix(d, e), f);
    return mix(mix(mix(a, d), g), h);
}

uint64_t strop_hash64(const void *data, size_t size)
{
    const uint8_t *p = data;
    size_t left = size;
    uint64_t state = 0;

    for (; left >= STROP_ALIGNMENT; left -= STROP_ALIGNMENT, p += STROP_ALIGNMENT)
        state = mix(state, hash_block(p));
    if (left > 0) {
        uint8_t block[STROP_ALIGNMENT] = {0};

        memcpy(block, p, left);
        state = mix(state, hash_block(block));
    }
    state = mix(state, size);
    return state ^ (state >> 32);
}
