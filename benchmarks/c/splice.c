/* splice SIZE SERVE: passes on what `SERVE lines tcp SIZE` sends to `SERVE sink tcp SIZE`, by splice(2). */
#include "bench.h"

#include "sockets.h"

static int started(char *const argv[], int *output)
{
    char where[64];
    int ends[2];
    open_pipe(ends, 0);
    spawn(argv, -1, ends[1]);
    close(ends[1]);
    ssize_t n = read(ends[0], where, sizeof where - 1);
    if (n < 2)
        die("no server");
    where[n - 1] = 0;
    *output = ends[0];
    return connect_to(where);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    char *source[] = {argv[2], "lines", "tcp", argv[1], NULL}, *sink[] = {argv[2], "sink", "tcp", argv[1], NULL};
    char said[64] = "";
    size_t at_start = status_line("VmRSS:");
    int ends[2], output, unused, from, to;
    open_pipe(ends, BIG_PIPE);
    to = started(sink, &output);
    double start = now();
    from = started(source, &unused);
    ssize_t n;
    while ((n = splice(from, NULL, ends[1], NULL, BIG_PIPE, 0)) > 0)
        while (n > 0) {
            ssize_t part = splice(ends[0], NULL, to, NULL, (size_t)n, 0);
            if (part < 0)
                die("splice");
            n -= part;
        }
    shutdown(to, SHUT_WR);
    if (read(output, said, sizeof said - 1) < 2 || number(strtok(said, "\n")) != number(argv[1]))
        die("not what was sent");
    report(now() - start, at_start);
    return 0;
}
