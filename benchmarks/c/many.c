/* many COUNT ALIVE ECHO LINE: COUNT children, ALIVE of them at once; each is started, fed, read and reaped. */
#include "bench.h"
#include <sys/resource.h>

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    size_t count = number(argv[1]), alive = number(argv[2]), at_start = status_line("VmRSS:");
    char *child[] = {argv[3], NULL}, line[256], reply[4096];
    ssize_t length = snprintf(line, sizeof line, "%s\n", argv[4]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct { pid_t pid; int to, from; } *children = calloc(alive, sizeof *children);
    if (!children || !alive)
        die("calloc");

    double start = now();
    for (size_t done = 0; done < count; done += alive) {
        for (size_t i = 0; i < alive; i++) {
            int in[2], out[2];
            open_pipe(in, 0);
            open_pipe(out, 0);
            children[i].pid = spawn(child, in[0], out[1]);
            children[i].to = in[1];
            children[i].from = out[0];
            close(in[0]);
            close(out[1]);
        }
        for (size_t i = 0; i < alive; i++)
            if (write(children[i].to, line, (size_t)length) != length)
                die("write");
        for (size_t i = 0; i < alive; i++)
            if (read(children[i].from, reply, sizeof reply) != length)
                die("read");
        for (size_t i = 0; i < alive; i++) {
            close(children[i].to);
            must_succeed(children[i].pid);
            close(children[i].from);
        }
    }
    report(now() - start, at_start);
    return 0;
}
