/* chat COUNT ECHO LINE: sends LINE to ECHO and waits for it to come back, COUNT times. */
#include "bench.h"

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    size_t count = number(argv[1]), at_start = status_line("VmRSS:");
    char *child[] = {argv[2], NULL}, line[256], reply[4096];
    ssize_t length = snprintf(line, sizeof line, "%s\n", argv[3]);
    int in[2], out[2];
    open_pipe(in, 0);
    open_pipe(out, 0);
    pid_t pid = spawn(child, in[0], out[1]);
    close(in[0]);
    close(out[1]);
    double start = now();
    for (size_t i = 0; i < count; i++) {
        ssize_t got = 0, n;
        if (write(in[1], line, (size_t)length) != length)
            die("write");
        do {
            n = read(out[0], reply + got, sizeof reply - (size_t)got);
            if (n <= 0)
                die("read");
            got += n;
        } while (reply[got - 1] != '\n');
        if (got != length)
            die("not the line that was sent");
    }
    double seconds = now() - start;
    close(in[1]);
    must_succeed(pid);
    report(seconds, at_start);
    return 0;
}
