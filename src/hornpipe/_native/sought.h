/* A string that is looked for in a flood, where it nearly never is. */
#ifndef HORNPIPE_SOUGHT_H
#define HORNPIPE_SOUGHT_H

#include <string.h>

#define LONGEST_SOUGHT 16

struct sought {
    char bytes[LONGEST_SOUGHT];
    size_t size;
    int folded;             /* the bytes are small letters, and stand for capital ones as well */
    unsigned char ends[4];  /* the first byte and the last, in small and capital letters */
};

typedef unsigned char block __attribute__((vector_size(16)));

static unsigned char capital(unsigned char byte) { return byte >= 'a' && byte <= 'z' ? byte - 32 : byte; }

/* Of a longer one the end. */
static void seek(struct sought *sought, const char *bytes, size_t size, int folded) {
    if (size > LONGEST_SOUGHT) {
        bytes += size - LONGEST_SOUGHT;
        size = LONGEST_SOUGHT;
    }
    memcpy(sought->bytes, bytes, size);
    sought->size = size;
    sought->folded = folded;
    sought->ends[0] = sought->ends[1] = (unsigned char)bytes[0];
    sought->ends[2] = sought->ends[3] = (unsigned char)bytes[size - 1];
    if (folded) {
        sought->ends[1] = capital(sought->ends[0]);
        sought->ends[3] = capital(sought->ends[2]);
    }
}

static int is_at(const struct sought *sought, const char *place) {
    if (!sought->folded)
        return memcmp(place, sought->bytes, sought->size) == 0;
    for (size_t i = 0; i < sought->size; i++)
        if (place[i] != sought->bytes[i] && (unsigned char)place[i] != capital((unsigned char)sought->bytes[i]))
            return 0;
    return 1;
}

/* By sixteen places at once: where both ends fit it is compared. Searches for one byte (memchr) are as fast only where
 * that byte is seldom. */
static int is_in(const struct sought *sought, const char *data, size_t size) {
    size_t last = sought->size - 1, at = 0;
    if (size <= last)
        return 0;
    const unsigned char *ends = sought->ends;
    for (; at + last + sizeof(block) <= size; at += sizeof(block)) {
        block first, second;
        unsigned long long fits[2];
        memcpy(&first, data + at, sizeof first);
        memcpy(&second, data + at + last, sizeof second);
        block both = (block)(((first == ends[0]) | (first == ends[1])) & ((second == ends[2]) | (second == ends[3])));
        memcpy(fits, &both, sizeof fits);
        if (fits[0] | fits[1])
            for (size_t i = 0; i < sizeof(block); i++)
                if (is_at(sought, data + at + i))
                    return 1;
    }
    for (; at + last < size; at++)
        if (is_at(sought, data + at))
            return 1;
    return 0;
}

/* Whether it ends after the first `old` bytes of the data; its beginning may lie in what came before them. */
static int comes(const struct sought *sought, const char *before, size_t held, const char *data, size_t old,
                 size_t size) {
    size_t last = sought->size - 1;
    if (old < last && held) {
        char border[2 * LONGEST_SOUGHT];
        size_t left = held < last ? held : last, right = size < last ? size : last;
        memcpy(border, before + held - left, left);
        memcpy(border + left, data, right);
        if (is_in(sought, border, left + right))
            return 1;
    }
    size_t from = old < last ? 0 : old - last;
    return is_in(sought, data + from, size - from);
}

static int is_ascii(const char *data, size_t size) {
    unsigned long long seen = 0, eight;
    size_t at = 0;
    for (; at + sizeof eight <= size; at += sizeof eight) {
        memcpy(&eight, data + at, sizeof eight);
        seen |= eight;
    }
    for (; at < size; at++)
        seen |= (unsigned char)data[at];
    return !(seen & 0x8080808080808080ULL);
}
#endif
