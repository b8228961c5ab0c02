/* lines BYTES GEN: runs `GEN BYTES` and finds every line of its output. */
#include "bench.h"

enum { BUFFER = 256 << 10 };

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    static char buffer[BUFFER];
    size_t size = number(argv[1]), held = 0, lines = 0, bytes = 0, at_start = status_line("VmRSS:");
    char *child[] = {argv[2], argv[1], NULL};
    int ends[2];
    ssize_t n;
    double start = now();
    open_pipe(ends, BIG_PIPE);
    pid_t pid = spawn(child, -1, ends[1]);
    close(ends[1]);
    while ((n = read(ends[0], buffer + held, BUFFER - held)) > 0) {
        char *line = buffer, *end = buffer + held + n, *feed;
        while ((feed = memchr(line, '\n', (size_t)(end - line)))) {
            lines++;
            bytes += (size_t)(feed - line) + 1;
            line = feed + 1;
        }
        held = (size_t)(end - line);
        memmove(buffer, line, held);
    }
    close(ends[0]);
    must_succeed(pid);
    double seconds = now() - start;
    if (n < 0 || bytes != size || lines != size / 64)
        die("not the lines that were sent");
    report(seconds, at_start);
    return 0;
}
