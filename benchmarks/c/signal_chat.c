/* signal_chat COUNT processes|threads: a signal there, a signal back, COUNT times. */
#include "bench.h"
#include <pthread.h>
#include <signal.h>

static sigset_t ours, theirs;
static pid_t first;

/* The other side: whatever comes is answered. */
static void *answer(void *unused)
{
    siginfo_t info;
    while (sigwaitinfo(&theirs, &info) > 0)
        kill(first, SIGUSR1);
    return unused;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t count = number(argv[1]), at_start = status_line("VmRSS:");
    pid_t other = first = getpid();
    siginfo_t info;
    pthread_t thread;
    sigemptyset(&ours);
    sigaddset(&ours, SIGUSR1);
    sigemptyset(&theirs);
    sigaddset(&theirs, SIGUSR2);
    sigset_t both = ours;
    sigaddset(&both, SIGUSR2);
    sigprocmask(SIG_BLOCK, &both, NULL);
    if (!strcmp(argv[2], "threads"))
        pthread_create(&thread, NULL, answer, NULL);
    else if (!(other = fork()))
        answer(NULL);
    double start = now();
    for (size_t i = 0; i < count; i++) {
        kill(other, SIGUSR2);
        if (sigwaitinfo(&ours, &info) < 0)
            die("sigwaitinfo");
    }
    double seconds = now() - start;
    if (other != first)
        kill(other, SIGKILL);
    report(seconds, at_start);
    return 0;
}
