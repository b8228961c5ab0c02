#define _GNU_SOURCE
#include "waiters.h"

#include "alone.h"
#include "clock.h"
#include "own_pipe.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* Closing a descriptor does not wake a thread that polls it, and the number may soon be
 * somebody else's. So every wait is on this list, with a pipe of its thread's own in the
 * poll set; whoever closes a descriptor first wakes the waits that name it. */
struct waiter {
    struct waiter *next;
    const struct pollfd *set;
    nfds_t count;
    int wake;
    int closed;
};
static struct waiter *waiters;
long long closings;
static pthread_mutex_t waiters_lock = PTHREAD_MUTEX_INITIALIZER;

struct thread_pipe {
    int ends[2];
    int main;  /* whether Python's handlers run in this thread */
    int stale; /* it is the parent's: see start_anew_in_child */
};
int lent = -1;
static pthread_key_t pipe_key;
static pthread_once_t pipe_once = PTHREAD_ONCE_INIT;

static void drop_pipe(void *memory) {
    struct thread_pipe *pipe_of_thread = memory;
    close(pipe_of_thread->ends[0]);
    close(pipe_of_thread->ends[1]);
    free(pipe_of_thread);
}

/* In a child. A wait that is under way here, since a handler has forked, goes on with the same numbers. */
static void renew(struct thread_pipe *inherited) {
    inherited->stale = 0;
    if (own_pipe_renew(inherited->ends) < 0) {
        pthread_setspecific(pipe_key, NULL);
        drop_pipe(inherited);
    }
}

static int locked; /* over a fork; not where nobody else could, for what a child writes to is copied */
static void lock_before_fork(void) {
    if (ALONE)
        return;
    pthread_mutex_lock(&waiters_lock);
    locked = 1;
}
static void unlock_after_fork(void) {
    if (!locked)
        return;
    locked = 0;
    pthread_mutex_unlock(&waiters_lock);
}
static void start_anew_in_child(void) {
    if (locked) {
        locked = 0;
        waiters = NULL; /* the waits of threads that do not exist here */
        pthread_mutex_init(&waiters_lock, NULL);
    }
    struct thread_pipe *inherited = pthread_getspecific(pipe_key);
    if (!inherited)
        return;
    if (!inherited->main)
        inherited->main = 1; /* the one thread there is */
    /* Later, unless it is in use: most children end before they have waited so long as to need it. */
    inherited->stale = 1;
    if (lent >= 0)
        renew(inherited);
}

void drop_pipe_of_this_thread(void) {
    struct thread_pipe *mine = pthread_getspecific(pipe_key);
    if (mine)
        drop_pipe(mine);
    pthread_setspecific(pipe_key, NULL);
}

static void prepare_pipes(void) {
    pthread_key_create(&pipe_key, drop_pipe);
    pthread_atfork(lock_before_fork, unlock_after_fork, start_anew_in_child);
}

struct thread_pipe *pipe_of_this_thread(void) {
    pthread_once(&pipe_once, prepare_pipes);
    struct thread_pipe *mine = pthread_getspecific(pipe_key);
    if (mine && mine->stale) {
        renew(mine);
        mine = pthread_getspecific(pipe_key);
    }
    if (mine)
        return mine;
    mine = calloc(1, sizeof *mine);
    if (!mine)
        return NULL;
    if (own_pipe(mine->ends) < 0) {
        free(mine);
        return NULL;
    }
    mine->main = is_first_thread();
    pthread_setspecific(pipe_key, mine);
    return mine;
}

/* Nanoseconds. */
#define FIRST_LOOK 40000000

int poll_once(struct pollfd *set, nfds_t count, long long deadline, int look, long long seen, int onward,
                     int *closed) {
    struct timespec left = {0, FIRST_LOOK}, *limit = look ? &left : NULL;
    struct thread_pipe *mine = NULL;
    *closed = 0;
    if (deadline >= 0) {
        long long ns = deadline ? deadline - monotonic_ns() : 0;
        if (ns < 0)
            ns = 0;
        if (!look || ns < FIRST_LOOK) {
            left.tv_sec = ns / 1000000000LL;
            left.tv_nsec = ns % 1000000000LL;
        }
        limit = &left;
        if (ns == 0) {
            *closed = seen >= 0 && seen != closings ? 2 : 0;
            return *closed ? -1 : ppoll(set, count, limit, NULL);
        }
    }
    if (look && ALONE && lent < 0) {
        /* No other thread can close it in the middle of the wait; a handler can have closed it. */
        *closed = seen >= 0 && seen != closings ? 2 : 0;
        return *closed ? -1 : ppoll(set, count, limit, NULL);
    }
    mine = pipe_of_this_thread();
    if (!mine)
        return ppoll(set, count, limit, NULL);
    struct waiter waiter = {NULL, set, count, mine->ends[1], 0};
    set[count].fd = mine->ends[0];
    set[count].events = POLLIN;
    set[count].revents = 0;
    pthread_mutex_lock(&waiters_lock);
    waiter.next = waiters;
    waiters = &waiter;
    /* Who closed our descriptor before we were on the list did not wake us, and its number may
     * be somebody else's already: whoever cares counts the closings first, then looks up the
     * number, and starts over when there has been another one since. */
    int outdated = seen >= 0 && seen != closings;
    pthread_mutex_unlock(&waiters_lock);
    int result = outdated ? -1 : ppoll(set, count + 1, limit, NULL);
    int error = errno;
    pthread_mutex_lock(&waiters_lock);
    struct waiter **at = &waiters;
    while (*at != &waiter)
        at = &(*at)->next;
    *at = waiter.next;
    pthread_mutex_unlock(&waiters_lock);
    if (result > 0 && set[count].revents) {
        char drained[64];
        ssize_t size;
        while ((size = read(mine->ends[0], drained, sizeof drained)) > 0)
            if (onward >= 0 && write(onward, drained, (size_t)size) < 0)
                continue; /* full: its owner has been woken */
        result--;
        if (result == 0 && !waiter.closed) {
            result = -1; /* woken for nothing we know of: look again */
            error = EINTR;
        }
    }
    *closed = outdated ? 2 : waiter.closed;
    errno = error;
    return result;
}

int handles_signals(void) {
    struct thread_pipe *mine = pthread_getspecific(pipe_key);
    return mine ? mine->main : is_first_thread();
}

int pipe_for_signals(void) {
    struct thread_pipe *mine = pipe_of_this_thread();
    return mine && mine->main ? mine->ends[1] : -1;
}

void empty_pipe_of_signals(void) {
    char seen[64];
    while (read(pipe_of_this_thread()->ends[0], seen, sizeof seen) > 0)
        ;
}

int look_for_signals(long long deadline, int onward) {
    struct thread_pipe *mine = pipe_of_this_thread();
    struct timespec left, *limit;
    char seen[64];
    ssize_t size;
    int any = 0;
    while ((size = read(mine->ends[0], seen, sizeof seen)) > 0)
        for (ssize_t i = 0; i < size; i++) {
            any |= seen[i] != 0; /* a closing writes 0 */
            if (onward >= 0 && write(onward, &seen[i], 1) < 0)
                continue; /* full: its owner has been woken */
        }
    if (any)
        return 1;
    limit = time_left(deadline, &left);
    if (limit && !limit->tv_sec && !limit->tv_nsec)
        return 0;
    struct pollfd set = {mine->ends[0], POLLIN, 0};
    ppoll(&set, 1, limit, NULL);
    return -1;
}

void wake_waiters_of(int fd) {
    pthread_mutex_lock(&waiters_lock);
    closings++;
    for (struct waiter *waiter = waiters; waiter; waiter = waiter->next)
        for (nfds_t i = 0; i < waiter->count; i++)
            if (waiter->set[i].fd == fd) {
                waiter->closed = 1;
                if (write(waiter->wake, "", 1) < 0)
                    break; /* full: a wake-up is under way already */
                break;
            }
    pthread_mutex_unlock(&waiters_lock);
}
