/* ptyread BYTES FLOOD PROMPT: reads what `FLOOD BYTES PROMPT` says on a terminal, and no more than that. */
#include "terminal.h"

enum { BUFFER = 64 << 10 };

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    static char buffer[BUFFER];
    size_t size = number(argv[1]), at_start = status_line("VmRSS:"), length = strlen(argv[3]);
    size_t wanted = size + size / 64 + length; /* each line ends in CR LF */
    char *child[] = {argv[2], argv[1], argv[3], NULL};
    int terminal;
    double start = now();
    pid_t pid = on_a_terminal(child, 1, &terminal);
    ssize_t n = 0;
    while (wanted) {
        n = read(terminal, buffer, sizeof buffer);
        if (n <= 0 || (size_t)n > wanted)
            die("read");
        wanted -= (size_t)n;
    }
    if ((size_t)n >= length && memcmp(buffer + n - length, argv[3], length))
        die("no prompt at the end");
    close(terminal);
    waitpid(pid, NULL, 0);
    report(now() - start, at_start);
    return 0;
}
