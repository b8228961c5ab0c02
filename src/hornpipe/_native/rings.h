/* Signals taken down at once, in C, for whoever looks later: handlers and watches (perlipc:S12).
 *
 * A ring is filled by the signal handler, in any thread and at any moment, and emptied by one
 * reader at a time. Everything the handler does is on the list of signal-safety(7): atomics,
 * clock_gettime, write, and PyErr_SetInterruptEx, which CPython documents as safe there. */
#ifndef HORNPIPE_RINGS_H
#define HORNPIPE_RINGS_H

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

#define RING_COUNT 64 /* a route is a set of rings in one word */

struct signal_record {
    int number, code;
    pid_t pid;
    uid_t uid;
    int status; /* of a child, as siginfo has it */
    long long value, address;
    long long when; /* CLOCK_MONOTONIC, nanoseconds */
};

/* Whether something happened, to a child or a descriptor; otherwise somebody sent it, or a terminal hung up. */
static inline int is_event(int code) { return code > 0 && code != SI_KERNEL; }

/* What a signal does by itself while the interpreter may be stuck (perlipc:S21). */
enum action_kind { ACTION_NONE = 0, ACTION_EXIT, ACTION_WRITE, ACTION_KILL_GROUP };
#define ACTION_COUNT 4
struct action {
    int kind, number; /* the exit code, the descriptor or the signal */
    size_t length;
    const char *bytes;
};

/* What siginfo says, and the time. */
void record_of(int number, const siginfo_t *info, struct signal_record *record);

/* Takes a ring into use: its number, or -1 with errno set. wake_fd is written to when the ring was
 * empty; -1 makes the interpreter call its handler instead. A forked child does not get what is ours_alone. */
int ring_open(int wake_fd, int ours_alone);
/* Nothing is written to the ring or to its descriptor any more once this returns. */
void ring_close(int ring);
void ring_route(int ring, int number, int on);
/* 1 and the oldest record, or 0. */
int ring_take(int ring, struct signal_record *record);
/* The reader has been woken and will look: from now on the next record wakes it again. */
void ring_rearm(int ring);
size_t ring_length(int ring);

/* Puts our handler in place. */
int rings_install(int number, int flags);
int rings_installed(int number); /* 1, 0 or -1 */
void rings_act(int number, const struct action *actions, int count);

long long rings_recorded(int number);
long long rings_merged(int number); /* standard signals that found too many of their kind unread */
void rings_merge(int number);       /* one more of them */

/* In a forked child: what the parent had not read is the parent's, and its threads, if it had others, are not here. */
void rings_forget(int threads);
/* What there has been to forget: signals, rings that are ours alone. */
#define RINGS_RECORDED 1
#define RINGS_OURS_ALONE 2
extern int rings_marked;
/* In a forked child that starts from the default dispositions: nobody's handlers and watches are here. */
void rings_abandon(int kept);
/* The handler of the clock signal calls this: lifts what a full ring had blocked in this thread. */
void rings_relieve(void *context);
#endif
