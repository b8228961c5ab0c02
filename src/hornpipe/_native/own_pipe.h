/* A pipe of the library's own. */
#ifndef HORNPIPE_OWN_PIPE_H
#define HORNPIPE_OWN_PIPE_H

#include <fcntl.h>
#include <unistd.h>

static inline int own_pipe(int ends[2]) {
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    for (int i = 0; i < 2; i++)
        if (ends[i] < 3) { /* 0, 1 and 2 are for what the program opens itself */
            int lifted = fcntl(ends[i], F_DUPFD_CLOEXEC, 3);
            if (lifted >= 0) {
                close(ends[i]);
                ends[i] = lifted;
            }
        }
    return 0;
}

/* In a child: the pipe is shared with the parent, whose wake-ups we would steal. The numbers stay, for whoever is using
 * them; -1 with errno, and all is as it was. */
static inline int own_pipe_renew(const int inherited[2]) {
    int ends[2];
    if (own_pipe(ends) < 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        dup3(ends[i], inherited[i], O_CLOEXEC);
        close(ends[i]);
    }
    return 0;
}
#endif
