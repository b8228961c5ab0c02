/* ptyspawn COUNT PROGRAM: starts it on a terminal, reads to the end, and waits for it, COUNT times. */
#include "terminal.h"

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t count = number(argv[1]), at_start = status_line("VmRSS:");
    char *child[] = {argv[2], NULL}, rest[4096];
    double start = now();
    for (size_t i = 0; i < count; i++) {
        int terminal;
        pid_t pid = on_a_terminal(child, 1, &terminal);
        while (read(terminal, rest, sizeof rest) > 0)
            ;
        must_succeed(pid);
        close(terminal);
    }
    report(now() - start, at_start);
    return 0;
}
