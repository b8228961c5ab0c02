/* both_ways BYTES: that much through cat, fed and collected at once. */
#include "bench.h"
#include <poll.h>

enum { STEP = 256 << 10 };

static void unblock(int fd)
{
    if (fcntl(fd, F_SETFL, O_NONBLOCK))
        die("O_NONBLOCK");
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    size_t size = number(argv[1]), sent = 0, got = 0, at_start = status_line("VmRSS:");
    char *child[] = {"cat", NULL}, *input = huge(size);
    int in[2], out[2];
    for (size_t i = 0; i < size; i++)
        input[i] = (char)(i % 251);

    double start = now();
    char *output = huge(size + STEP);
    open_pipe(in, BIG_PIPE);
    open_pipe(out, BIG_PIPE);
    pid_t pid = spawn(child, in[0], out[1]);
    close(in[0]);
    close(out[1]);
    unblock(in[1]);
    unblock(out[0]);
    struct pollfd ends[2] = {{out[0], POLLIN, 0}, {in[1], POLLOUT, 0}};
    while (ends[0].fd >= 0) {
        if (poll(ends, 2, -1) < 0)
            die("poll");
        if (ends[1].revents) {
            ssize_t n = write(in[1], input + sent, size - sent < STEP ? size - sent : STEP);
            if (n < 0 && errno != EAGAIN)
                die("write");
            sent += n > 0 ? (size_t)n : 0;
            if (sent == size) {
                close(in[1]);
                ends[1] = (struct pollfd){-1, 0, 0};
            }
        }
        if (ends[0].revents) {
            ssize_t n = read(out[0], output + got, STEP);
            if (n < 0 && errno != EAGAIN)
                die("read");
            got += n > 0 ? (size_t)n : 0;
            if (n == 0 || got > size)
                ends[0].fd = -1;
        }
    }
    must_succeed(pid);
    double seconds = now() - start;
    if (got != size || memcmp(input, output, size))
        die("not the bytes that were sent");
    report(seconds, at_start);
    return 0;
}
