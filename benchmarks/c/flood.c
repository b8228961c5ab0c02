/* flood BYTES PROMPT: that many bytes of a log, in lines of 64, then PROMPT, and nothing more until it is hung up on. */
#include "bench.h"

static const char line[] = "11-26 08:24:16 worker[17]: request 4711 is done (12 ms, 200 OK)\n";

enum { LINE = sizeof line - 1, BLOCK = 128 << 10 };

static void put(const char *from, size_t size)
{
    while (size) {
        ssize_t n = write(1, from, size);
        if (n < 0)
            die("write");
        from += n;
        size -= (size_t)n;
    }
}

int main(int argc, char **argv)
{
    static char block[BLOCK];
    if (argc != 3)
        return 2;
    size_t left = number(argv[1]);
    for (size_t i = 0; i < BLOCK; i++)
        block[i] = line[i % LINE];
    for (; left; left -= left < BLOCK ? left : BLOCK)
        put(block, left < BLOCK ? left : BLOCK);
    put(argv[2], strlen(argv[2]));
    for (;;)
        pause();
}
