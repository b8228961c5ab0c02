/* spawnwait COUNT PROGRAM: vfork, exec and wait, COUNT times. */
#include "bench.h"

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t count = number(argv[1]), at_start = status_line("VmRSS:");
    char *child[] = {argv[2], NULL};
    double start = now();
    for (size_t i = 0; i < count; i++)
        must_succeed(spawn(child, -1, -1));
    report(now() - start, at_start);
    return 0;
}
