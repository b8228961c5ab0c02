/* fifochat COUNT ECHO [poll]: 64 bytes through one FIFO to ECHO, and back through another, COUNT times. With `poll` it
 * waits as one has to who keeps deadlines. */
#include "bench.h"
#include <poll.h>
#include <sys/stat.h>

#define SIZE 64

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    size_t count = number(argv[1]), at_start = status_line("VmRSS:");
    char folder[] = "/tmp/fifochat-XXXXXX", *child[] = {argv[2], NULL}, text[SIZE], reply[4096];
    if (!mkdtemp(folder) || chdir(folder) || mkfifo("there", 0600) || mkfifo("back", 0600))
        die(folder);
    /* Both ends of each, so that no open waits; ECHO has its own, and ours of its sides are closed. */
    int there = open("there", O_RDWR | O_CLOEXEC), back = open("back", O_RDWR | O_CLOEXEC);
    int in = open("there", O_RDONLY | O_CLOEXEC), out = open("back", O_WRONLY | O_CLOEXEC);
    int to = open("there", O_WRONLY | O_CLOEXEC), from = open("back", O_RDONLY | O_CLOEXEC);
    if (there < 0 || back < 0 || in < 0 || out < 0 || to < 0 || from < 0)
        die("open");
    pid_t pid = spawn(child, in, out);
    close(there), close(back), close(in), close(out);
    memset(text, 'x', SIZE - 1);
    text[SIZE - 1] = '\n';
    struct pollfd answer = {from, POLLIN, 0};
    double start = now();
    for (size_t i = 0; i < count; i++) {
        if (write(to, text, SIZE) != SIZE)
            die("write");
        if (argc > 3 && poll(&answer, 1, -1) != 1)
            die("poll");
        if (read(from, reply, sizeof reply) != SIZE)
            die("read");
    }
    double seconds = now() - start;
    close(to);
    must_succeed(pid);
    if (unlink("there") || unlink("back") || rmdir(folder))
        die("cannot tidy up");
    report(seconds, at_start);
    return 0;
}
