/* ptychat COUNT LINE: sends LINE to a `cat` on a terminal and waits for it to come back, COUNT times. */
#include "terminal.h"

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t count = number(argv[1]), at_start = status_line("VmRSS:");
    char *child[] = {"cat", NULL}, line[256], reply[4096];
    ssize_t length = snprintf(line, sizeof line, "%s\n", argv[2]);
    int terminal;
    pid_t pid = on_a_terminal(child, 0, &terminal);
    double start = 0;
    for (size_t i = 0; i <= count; i++) { /* the first one waits for cat to be there */
        ssize_t got = 0, n;
        if (i == 1)
            start = now();
        if (write(terminal, line, (size_t)length) != length)
            die("write");
        do {
            n = read(terminal, reply + got, sizeof reply - (size_t)got);
            if (n <= 0)
                die("read");
            got += n;
        } while (reply[got - 1] != '\n');
        if (got != length + 1 || memcmp(reply, line, (size_t)length - 1))
            die("not the line that was sent");
    }
    double seconds = now() - start;
    close(terminal);
    waitpid(pid, NULL, 0);
    report(seconds, at_start);
    return 0;
}
