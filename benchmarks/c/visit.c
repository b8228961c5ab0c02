/* visit WHAT WHERE SIZE SERVE: starts `SERVE WHAT WHERE SIZE` and is its client: `greet` connects SIZE times and reads the
 * greeting, `echo` has SIZE lines of 64 bytes sent back, `lines` finds the lines in SIZE bytes. */
#include "bench.h"

#include "sockets.h"

static size_t read_to_end(int fd, char *buffer, size_t size)
{
    size_t held = 0;
    ssize_t n;
    while (held < size && (n = read(fd, buffer + held, size - held)) > 0)
        held += (size_t)n;
    return held;
}

static size_t count_lines(int fd)
{
    static char buffer[256 << 10];
    size_t held = 0, lines = 0;
    ssize_t n;
    while ((n = read(fd, buffer + held, sizeof buffer - held)) > 0) {
        char *line = buffer, *end = buffer + held + n, *feed;
        while ((feed = memchr(line, '\n', (size_t)(end - line)))) {
            lines++;
            line = feed + 1;
        }
        held = (size_t)(end - line);
        memmove(buffer, line, held);
    }
    return lines;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    char line[64], reply[64], where[256], *child[] = {argv[4], argv[1], argv[2], argv[3], NULL};
    size_t size = number(argv[3]), at_start = status_line("VmRSS:");
    int ends[2];
    open_pipe(ends, 0);
    spawn(child, -1, ends[1]);
    ssize_t n = read(ends[0], where, sizeof where - 1);
    if (n < 2)
        die("no server");
    where[n - 1] = 0;
    memset(line, 'x', 63);
    line[63] = '\n';
    double start;
    if (!strcmp(argv[1], "greet")) {
        start = now();
        for (size_t i = 0; i < size; i++) {
            int fd = connect_to(where);
            if (read_to_end(fd, reply, sizeof reply) != 14)
                die("not the greeting");
            close(fd);
        }
    } else if (!strcmp(argv[1], "echo")) {
        int fd = connect_to(where);
        start = now();
        for (size_t i = 0; i < size; i++) {
            send_all(fd, line, sizeof line);
            if (read_to_end(fd, reply, sizeof reply) != sizeof reply)
                die("not the echo");
        }
    } else {
        start = now();
        if (count_lines(connect_to(where)) != size / 64)
            die("not the lines that were sent");
    }
    report(now() - start, at_start);
    return 0;
}
