/* capture_small COUNT PROGRAM: start it, read its 32 bytes to the end, wait; COUNT times. */
#include "bench.h"

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t count = number(argv[1]), at_start = status_line("VmRSS:");
    char *child[] = {argv[2], NULL};
    double start = now();
    for (size_t i = 0; i < count; i++) {
        int ends[2];
        char output[4096];
        size_t length = 0;
        ssize_t n;
        open_pipe(ends, 0);
        pid_t pid = spawn(child, -1, ends[1]);
        close(ends[1]);
        while ((n = read(ends[0], output + length, sizeof output - length)) > 0)
            length += (size_t)n;
        close(ends[0]);
        must_succeed(pid);
        if (n < 0 || length != 32)
            die("not the 32 bytes");
    }
    report(now() - start, at_start);
    return 0;
}
