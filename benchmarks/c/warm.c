/* warm BYTES: touches memory and gives it back. On a virtual machine the first touch of memory that the host has
   taken away is ten times slower than any other; nobody's figures should hold that. */
#include "bench.h"

int main(int argc, char **argv)
{
    size_t size = argc == 2 ? number(argv[1]) : 0;
    char *memory = huge(size);
    for (size_t i = 0; i < size; i += 4096)
        ((volatile char *)memory)[i] = 1;
    return 0;
}
