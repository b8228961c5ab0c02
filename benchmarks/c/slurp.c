/* slurp BYTES GEN: runs `GEN BYTES` and keeps all of its output in memory: 1 MiB of pipe, huge pages. */
#include "bench.h"

enum { READ = 256 << 10 };

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t size = number(argv[1]), length = 0, at_start = status_line("VmRSS:");
    char *child[] = {argv[2], argv[1], NULL};
    int ends[2];
    ssize_t n;
    double start = now();
    char *output = huge(size + READ);
    open_pipe(ends, BIG_PIPE);
    pid_t pid = spawn(child, -1, ends[1]);
    close(ends[1]);
    while (length <= size && (n = read(ends[0], output + length, READ)) != 0) {
        if (n < 0)
            die("read");
        length += (size_t)n;
    }
    close(ends[0]);
    must_succeed(pid);
    double seconds = now() - start;
    if (length != size || (size && output[size - 1] != '\n'))
        die("not the bytes that were sent");
    report(seconds, at_start);
    return 0;
}
