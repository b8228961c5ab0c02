/* The clock of a thread that is in a call which cannot be given a deadline, nor a descriptor to watch: it ends
 * that call, with EINTR, at the deadline, or when a handler of Python's wants to be run (perlipc:S12, S13).
 *
 * Of one's own signals there is no way into a call that has not begun yet: one that comes between the last look and
 * the call is lost on it. So the clock goes off again and again until it has found the thread inside the call. */
#ifndef HORNPIPE_CLOCK_H
#define HORNPIPE_CLOCK_H

#include <signal.h>
#include <stddef.h>
#include <time.h>

/* One for each thread that has waited; it stays until the thread ends. */
struct clock {
    timer_t timer;
    int made;                         /* whether there is a timer: not in a forked child (timer_create(2)) */
    int main;                         /* whether Python's handlers run in this thread */
    struct clock_use *use;            /* the wait that set it last: a handler that waits sets it too */
    volatile sig_atomic_t running;    /* the timer is set */
    volatile sig_atomic_t look_again; /* something has happened since it was set */
    volatile sig_atomic_t arrived;    /* there is something in the pipe of arrivals */
    long long deadline;
    volatile sig_atomic_t blocked;    /* our signals are again, as they were before the wait */
};

/* One wait. */
struct clock_use {
    struct clock *clock;
    struct clock *waited; /* what the main thread was waiting with before, if a handler waits */
    sigset_t blocked;     /* which of our signals were */
    int is_armed, any_blocked, entered;
    int kind;    /* of its call: see below */
    int guarded; /* nothing is needed for signals but the guard of guard.h */
    int lent, owned_before, owner_before;
};

/* The call. With `words` it is not made: they become its number and arguments, for guard_enter. */
typedef long (*clock_call)(void *arguments, long *words);

/* It has been told the deadline. */
#define BOUNDS_ITSELF 1
/* It can be told in words, and is never restarted (signal(7)). */
#define CAN_BE_GUARDED 2

#ifdef SIGSTKFLT
#define ARRIVAL_SIGNAL SIGSTKFLT
#else
#define ARRIVAL_SIGNAL (SIGRTMAX - 1)
#endif

static inline long long monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Until a deadline, for a system call: NULL is for ever, and nothing is left of what lies in the past. 0 does, which
 * needs no look at the clock. */
static inline struct timespec *time_left(long long deadline, struct timespec *left) {
    long long ns = deadline > 0 ? deadline - monotonic_ns() : 0;
    if (deadline < 0)
        return NULL;
    if (ns < 0)
        ns = 0;
    left->tv_sec = ns / 1000000000LL;
    left->tv_nsec = ns % 1000000000LL;
    return left;
}

/* Puts the handler of the clock signal in place; the hook is what else it does. */
void hold_clock_signal(void);
extern void (*clock_hook)(void *);
/* A timer that makes the interpreter call its handler for the clock signal. */
int make_alarm(timer_t *timer);
void set_alarm(timer_t timer, long long deadline);
/* CPython's own calls look for handlers once when a signal has ended them, and then wait again at once. What could
 * not be handed out in that look would wait for the next signal: this is the next one, after so many nanoseconds and
 * then every 5 ms until told by a 0. The interpreter then calls its handler for that number. */
void nudge(int number, long long first);

/* Makes what this thread needs for waiting, if it has not been made: 0, or -1 with errno. */
int clock_prepare(void);
/* Around a wait: 0, or -1 with errno. With the GIL. */
int clock_begin(struct clock_use *use, int kind);
void clock_end(struct clock_use *use);
/* For each try: set; then Python's handlers; then watch out, and Python's handlers again if that says so; then, if none
 * of them has set it for a wait of its own, the call. */
int clock_set(struct clock_use *use, long long deadline);
int clock_watches(const struct clock_use *use);
int clock_is_set(const struct clock_use *use);
long clock_enter(struct clock_use *use, clock_call call, void *arguments);
/* In a forked child, with the GIL. */
void clock_in_child(void);
/* In one that is about to close every descriptor. */
void clock_abandon(void);
#endif
