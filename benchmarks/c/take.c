/* take COUNT BATCH: queues BATCH blocked real-time signals to itself and takes them one by one, COUNT in all. Only the
 * taking is timed, unless the batch is 1. */
#include "bench.h"
#include <signal.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t count = number(argv[1]), batch = number(argv[2]), at_start = status_line("VmRSS:");
    struct timespec patience = {5, 0};
    double seconds = 0;
    sigset_t set;
    siginfo_t info;
    int queued = SIGRTMIN + 3;
    sigemptyset(&set);
    sigaddset(&set, queued);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (size_t done = 0; done < count; done += batch) {
        double start = now();
        for (size_t i = 0; i < batch; i++)
            if (sigqueue(getpid(), queued, (union sigval){.sival_int = (int)i}))
                die("sigqueue");
        if (batch > 1)
            start = now();
        for (size_t i = 0; i < batch; i++)
            if (sigtimedwait(&set, &info, &patience) != queued || info.si_value.sival_int != (int)i)
                die("sigtimedwait");
        seconds += now() - start;
    }
    report(seconds, at_start);
    return 0;
}
