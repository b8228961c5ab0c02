/* handler COUNT: signals itself and has it handled, COUNT times. */
#include "bench.h"
#include <signal.h>

static volatile sig_atomic_t handled;
static volatile pid_t sender;

static void handle(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    sender = info->si_pid;
    handled++;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    size_t count = number(argv[1]), at_start = status_line("VmRSS:");
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    pid_t self = getpid();
    double start = now();
    for (size_t i = 0; i < count; i++)
        kill(self, SIGUSR1);
    double seconds = now() - start;
    if ((size_t)handled != count || sender != self)
        return 1;
    report(seconds, at_start);
    return 0;
}
