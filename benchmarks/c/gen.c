/* gen BYTES: that many bytes in lines of 64, in writes of 128 KiB, which is what cat does as well. */
#include "bench.h"

enum { LINE = 64, BLOCK = 128 << 10 };

int main(int argc, char **argv)
{
    static char block[BLOCK];
    size_t size = argc == 2 ? number(argv[1]) : 0, sent = 0;
    for (size_t i = 0; i < BLOCK; i++)
        block[i] = i % LINE == LINE - 1 ? '\n' : (char)('0' + i % LINE);
    while (sent < size) {
        size_t phase = sent % LINE, left = size - sent; /* after a short write, go on where the line broke off */
        ssize_t n = write(1, block + phase, left < BLOCK - phase ? left : BLOCK - phase);
        if (n < 0)
            die("write");
        sent += (size_t)n;
    }
    return 0;
}
