/* pipeline BYTES GEN: GEN BYTES | cat | wc -c, with 1 MiB of pipe between the stages. */
#include "bench.h"

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t size = number(argv[1]), at_start = status_line("VmRSS:");
    char *gen[] = {argv[2], argv[1], NULL}, *cat[] = {"cat", NULL}, *wc[] = {"wc", "-c", NULL};
    int first[2], second[2], answer[2];
    char text[64] = "";
    double start = now();
    open_pipe(first, BIG_PIPE);
    open_pipe(second, BIG_PIPE);
    open_pipe(answer, 0);
    pid_t stages[] = {spawn(gen, -1, first[1]), spawn(cat, first[0], second[1]), spawn(wc, second[0], answer[1])};
    close(first[0]), close(first[1]);
    close(second[0]), close(second[1]);
    close(answer[1]);
    if (read(answer[0], text, sizeof text - 1) <= 0)
        die("no answer");
    for (int i = 0; i < 3; i++)
        must_succeed(stages[i]);
    double seconds = now() - start;
    if (strtoull(text, NULL, 10) != size)
        die("not the count that was sent");
    report(seconds, at_start);
    return 0;
}
