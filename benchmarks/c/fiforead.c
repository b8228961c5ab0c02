/* fiforead COUNT each|any SERVER...: reads the FIFO "name" to its end until COUNT whole answers of the server, which runs
 * in a folder of its own, have come. With `each` it must be one at every reading, and none twice; with `any` others are
 * not counted. An answer is a line of text and a line with a number. */
#include "bench.h"
#include <signal.h>
#include <sys/stat.h>

#define TEXT "John Smith (smith@host.org)\n"

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    size_t count = number(argv[1]), at_start = status_line("VmRSS:"), got = 0;
    int each = !strcmp(argv[2], "each");
    char folder[] = "/tmp/fiforead-XXXXXX", answer[4096], last[sizeof answer] = "";
    if (!mkdtemp(folder) || chdir(folder) || mkfifo("name", 0600))
        die(folder);
    pid_t pid = spawn(argv + 3, -1, -1);
    double start = 0;
    while (got <= count) {
        size_t held = 0;
        ssize_t n;
        int fd = open("name", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            die("open");
        while ((n = read(fd, answer + held, sizeof answer - 1 - held)) > 0)
            held += (size_t)n;
        if (n < 0)
            die("read");
        close(fd);
        answer[held] = 0;
        char *number = answer + strlen(TEXT), *end = held > strlen(TEXT) ? strchr(number, '\n') : NULL;
        if (!strncmp(answer, TEXT, strlen(TEXT)) && end && end == answer + held - 1 && strcmp(answer, last)) {
            strcpy(last, answer);
            if (!got++)
                start = now(); /* whatever the server needs for its start is over */
        } else if (each) {
            fprintf(stderr, "not one whole fresh answer: %s\n", answer);
            kill(pid, SIGKILL);
            return 1;
        }
    }
    double seconds = now() - start;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    (void)!system("rm -rf name .name.*");
    if (chdir("/") || rmdir(folder))
        die("cannot tidy up");
    report(seconds, at_start);
    return 0;
}
