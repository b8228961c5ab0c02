#include <Python.h>

#include "alone.h"
#include "clock.h"
#include "guard.h"
#include "own_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Nanoseconds until the clock goes off again that has not found its thread in a call. */
#define AGAIN 2000000

void (*clock_hook)(void *);

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char alarm_mark, nudge_mark;
static volatile sig_atomic_t nudged; /* what Python is to look for */

/* CPython writes a byte for each signal to its wake-up descriptor, whatever thread has got the signal. That is the
 * write end of this pipe while the main thread waits; of its other end the kernel then tells that thread (O_ASYNC,
 * fcntl(2)), by a signal of its own: real-time ones are refused when the user's queue is full, and SIGIO, which
 * kills, comes in their place. SIGSTKFLT is sent by nobody: the coprocessor it was for has no stack any more. */
static struct {
    int ends[2], made, stale; /* stale: the parent's */
} arrivals;
static struct clock *volatile waiting; /* what the main thread waits with */
static int owner = -1;                 /* whose place the pipe has taken */

/* The descriptor that had the place. */
static int set_wakeup(int fd) {
#if PY_VERSION_HEX >= 0x030d0000
    return PySignal_SetWakeupFd(fd);
#else
    /* The same, but hidden until 3.13; the module's function looks at the descriptor first, which takes two calls. */
    static PyObject *function;
    PyObject *before, *wanted;
    int number = -1;
    if (!function) {
        PyObject *module = PyImport_ImportModule("_signal");
        function = module ? PyObject_GetAttrString(module, "set_wakeup_fd") : NULL;
        Py_XDECREF(module);
    }
    wanted = function ? PyLong_FromLong(fd) : NULL;
    before = wanted ? PyObject_CallOneArg(function, wanted) : NULL;
    Py_XDECREF(wanted);
    if (before) {
        number = (int)PyLong_AsLong(before);
        Py_DECREF(before);
        return number;
    }
    PyErr_Clear();
    return fd < 0 ? -1 : set_wakeup(-1); /* its owner has closed it */
#endif
}

static void run(struct clock *clock, long long nanoseconds) {
    struct itimerspec when = {{0, 0}, {nanoseconds / 1000000000LL, nanoseconds % 1000000000LL}};
    clock->running = 1;
    timer_settime(clock->timer, 0, &when, NULL);
}

/* Whether a system call has just been ended by this signal (or another one): then there is nothing more to end. Where
 * we cannot tell, the clock goes off once more than is needed. */
static int ended_a_call(const ucontext_t *context) {
#if defined(__x86_64__) && defined(REG_RIP)
    const unsigned char *next = (const unsigned char *)context->uc_mcontext.gregs[REG_RIP];
    return context->uc_mcontext.gregs[REG_RAX] == -EINTR && next[-2] == 0x0f && next[-1] == 0x05;
#elif defined(__aarch64__)
    const unsigned *next = (const unsigned *)context->uc_mcontext.pc;
    return (long)context->uc_mcontext.regs[0] == -EINTR && next[-1] == 0xd4000001;
#else
    (void)context;
    return 0;
#endif
}

static void go_off(struct clock *clock, ucontext_t *context) {
    clock->running = 0;
    clock->look_again = 1;
    if (!ended_a_call(context)) {
        run(clock, AGAIN);
        return;
    }
    if (clock->use && clock->use->any_blocked && clock->deadline >= 0 && monotonic_ns() >= clock->deadline) {
        /* The wait is over: with the return from here the mask is again what it was, which spares a call. */
        if (sigismember(&clock->use->blocked, SIGRTMAX) == 1)
            sigaddset(&context->uc_sigmask, SIGRTMAX);
        if (sigismember(&clock->use->blocked, ARRIVAL_SIGNAL) == 1)
            sigaddset(&context->uc_sigmask, ARRIVAL_SIGNAL);
        clock->blocked = 1;
    }
}

static void on_clock_signal(int number, siginfo_t *info, void *context) {
    int error = errno;
    if (info->si_code == SI_TIMER) {
        if (info->si_value.sival_ptr == &alarm_mark)
            PyErr_SetInterruptEx(number);
        else if (info->si_value.sival_ptr == &nudge_mark) {
            if (nudged)
                PyErr_SetInterruptEx(nudged);
        } else
            go_off(info->si_value.sival_ptr, context);
    }
    if (clock_hook)
        clock_hook(context);
    errno = error;
}

static void on_arrival(int number, siginfo_t *info, void *context) {
    int error = errno;
    struct clock *clock = waiting;
    (void)number;
    (void)info;
    if (clock) {
        clock->arrived = 1;
        clock->look_again = 1;
        if (!ended_a_call(context))
            run(clock, AGAIN);
    }
    errno = error;
}

static void hold(int number, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK; /* no SA_RESTART: ending calls is what it is for */
    /* One after the other: both set the timer. */
    sigaddset(&action.sa_mask, SIGRTMAX);
    sigaddset(&action.sa_mask, ARRIVAL_SIGNAL);
    sigaction(number, &action, NULL);
}

void hold_clock_signal(void) { hold(SIGRTMAX, on_clock_signal); }

static int make_timer(timer_t *timer, void *what) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGRTMAX;
    event.sigev_value.sival_ptr = what;
#ifdef sigev_notify_thread_id
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
#else
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
#endif
    return timer_create(CLOCK_MONOTONIC, &event, timer);
}

int make_alarm(timer_t *timer) { return make_timer(timer, &alarm_mark); }

void set_alarm(timer_t timer, long long deadline) {
    /* Again and again until Python has looked: an expiry between its last look and a system call
     * would not end that call. */
    struct itimerspec when = {{0, 5000000}, {0, 0}};
    long long left = deadline < 0 ? 0 : deadline - monotonic_ns();
    if (deadline >= 0 && left < 1)
        left = 1;
    when.it_value.tv_sec = left / 1000000000LL;
    when.it_value.tv_nsec = left % 1000000000LL;
    timer_settime(timer, 0, &when, NULL);
}

void nudge(int number, long long first) {
    static timer_t timer;
    static pid_t whose; /* a fork does not inherit it */
    struct itimerspec when = {{0, 5000000}, {0, first}};
    nudged = number;
    if (number)
        guard_trip(); /* not after the look that is under way */
    if (whose != getpid()) {
        if (!number)
            return;
        hold_clock_signal();
        if (make_timer(&timer, &nudge_mark) < 0)
            return; /* too many timers: they wait, and are not lost */
        whose = getpid();
    }
    if (!number)
        memset(&when, 0, sizeof when);
    timer_settime(timer, 0, &when, NULL);
}

/* --- the pipe of arrivals --- */

static int tell_this_thread(int fd) {
    struct f_owner_ex us = {F_OWNER_TID, (pid_t)syscall(SYS_gettid)};
    hold(ARRIVAL_SIGNAL, on_arrival);
    if (fcntl(fd, F_SETOWN_EX, &us) < 0 || fcntl(fd, F_SETSIG, ARRIVAL_SIGNAL) < 0)
        return -1;
    return fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC);
}

static void close_arrivals(void) {
    if (arrivals.made) {
        close(arrivals.ends[0]);
        close(arrivals.ends[1]);
        arrivals.made = arrivals.stale = 0;
    }
}

/* The end of its writers is told as well, and an exec closes both ends when the signal's handler has gone already: the
 * new program would be killed by it. What has the higher number is let go first (task_work_run in the kernel, the last
 * comes first), and who has gone is told nothing. */
static int read_end_last(int ends[2]) {
    int higher;
    if (ends[0] > ends[1])
        return 0;
    higher = fcntl(ends[0], F_DUPFD_CLOEXEC, ends[1]);
    if (higher < 0)
        return -1;
    close(ends[0]);
    ends[0] = higher;
    return 0;
}

static int make_arrivals(void) {
    if (arrivals.made)
        return 0;
    if (own_pipe(arrivals.ends) < 0)
        return -1;
    arrivals.made = 1;
    if (read_end_last(arrivals.ends) < 0 || tell_this_thread(arrivals.ends[0]) < 0) {
        int error = errno;
        close_arrivals();
        errno = error;
        return -1;
    }
    return 0;
}

/* What it has been told is passed on to whom the wake-up descriptor belongs. */
static void drain(struct clock *clock) {
    char told[64];
    ssize_t size;
    clock->arrived = 0;
    while ((size = read(arrivals.ends[0], told, sizeof told)) > 0)
        if (owner >= 0 && write(owner, told, (size_t)size) < 0)
            continue; /* full: its owner has been woken */
}

/* --- forks and ends of threads --- */

static void stop_lending(int to) {
    int now = set_wakeup(to);
    if (now != arrivals.ends[1])
        set_wakeup(now); /* a handler has set another one */
    waiting = NULL;
    owner = -1;
}

static void start_anew_in_child(void) {
    struct clock *mine = pthread_getspecific(key);
    if (mine) {
        mine->made = mine->running = 0;
        mine->use = NULL; /* a wait that goes on here sets it again */
        mine->main = 1;   /* the one thread there is */
    }
    if (arrivals.made)
        arrivals.stale = 1;
    /* A handler has forked in the middle of a wait, which goes on here: by a pipe that is not the parent's. */
    if (arrivals.made && waiting && waiting == mine && own_pipe_renew(arrivals.ends) == 0)
        arrivals.stale = tell_this_thread(arrivals.ends[0]) < 0;
}

void clock_in_child(void) {
    if (!arrivals.stale)
        return;
    if (waiting)
        stop_lending(owner); /* of a thread that is not here */
    close_arrivals();
}

static void drop(void *memory) {
    struct clock *clock = memory;
    if (clock->made)
        timer_delete(clock->timer);
    free(clock);
}

static void prepare_key(void) {
    pthread_key_create(&key, drop);
    pthread_atfork(NULL, NULL, start_anew_in_child);
}

static struct clock *clock_of_this_thread(void) {
    pthread_once(&once, prepare_key);
    struct clock *mine = pthread_getspecific(key);
    if (mine)
        return mine;
    mine = calloc(1, sizeof *mine);
    if (!mine)
        return NULL;
    mine->main = is_first_thread();
    pthread_setspecific(key, mine);
    return mine;
}

static int make(struct clock *clock, int told) {
    clock_in_child();
    if (!clock->made) {
        hold_clock_signal();
        if (make_timer(&clock->timer, clock) < 0)
            return -1;
        clock->made = 1;
    }
    return told ? make_arrivals() : 0;
}

int clock_prepare(void) {
    struct clock *mine = clock_of_this_thread();
    return mine ? make(mine, mine->main) : -1;
}

void clock_abandon(void) {
    if (waiting)
        stop_lending(-1);
    close_arrivals();
}

/* --- one wait --- */

int clock_begin(struct clock_use *use, int kind) {
    memset(use, 0, sizeof *use);
    use->clock = clock_of_this_thread();
    use->kind = kind;
    return use->clock ? 0 : -1;
}

static void open_ours(struct clock_use *use) {
    sigset_t open, before;
    sigemptyset(&open);
    sigaddset(&open, SIGRTMAX);
    sigaddset(&open, ARRIVAL_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &open, &before);
    sigemptyset(&use->blocked);
    if (sigismember(&before, SIGRTMAX) == 1)
        sigaddset(&use->blocked, SIGRTMAX);
    if (sigismember(&before, ARRIVAL_SIGNAL) == 1)
        sigaddset(&use->blocked, ARRIVAL_SIGNAL);
    use->any_blocked = !sigisemptyset(&use->blocked);
}

static void lend(struct clock_use *use) {
    use->lent = 1;
    use->waited = waiting;
    use->owner_before = owner;
    waiting = use->clock;
    use->owned_before = set_wakeup(arrivals.ends[1]);
    /* In a handler that waits, while the wait it has interrupted goes on: told to ourselves, each signal would
     * be told for ever. */
    if (use->owned_before != arrivals.ends[1])
        owner = use->owned_before;
}

int clock_set(struct clock_use *use, long long deadline) {
    struct clock *clock = use->clock;
    int timed = deadline >= 0 && !(use->kind & BOUNDS_ITSELF);
    /* As long as nobody else could get a signal. */
    use->guarded = clock->main && !use->lent && use->kind & CAN_BE_GUARDED && guard_usable() && guard_alone();
    int told = clock->main && !use->guarded;
    if (!timed && !told)
        return 0; /* nothing else is to end that call */
    if (make(clock, told) < 0)
        return -1;
    if (!use->is_armed || clock->blocked)
        open_ours(use);
    clock->blocked = 0;
    if (told && !use->lent)
        lend(use);
    use->is_armed = 1;
    clock->use = use;
    clock->deadline = timed ? deadline : -1;
    /* From here on whatever happens is seen by clock_enter. */
    clock->look_again = 0;
    if (timed) {
        long long left = deadline - monotonic_ns();
        /* Entered at least once, however little time there is: a timeout of 0 tries. */
        long long least = use->entered ? 1 : AGAIN / 2;
        run(clock, left < least ? least : left);
    }
    return 0;
}

int clock_watches(const struct clock_use *use) {
    if (use->guarded)
        guard_open();
    return use->guarded;
}

int clock_is_set(const struct clock_use *use) {
    if (use->guarded && !guard_alone())
        return 0; /* a handler has started a thread */
    return !use->is_armed || use->clock->use == use;
}

long clock_enter(struct clock_use *use, clock_call call, void *arguments) {
    if (use->is_armed && use->clock->look_again) {
        errno = EINTR;
        return -1;
    }
    use->entered = 1;
    if (use->guarded) {
        long words[6];
        call(arguments, words);
        return guard_enter(words);
    }
    return call(arguments, NULL);
}

void clock_end(struct clock_use *use) {
    struct clock *clock = use->clock;
    int error = errno;
    if (use->lent && waiting) { /* not if it was abandoned meanwhile, in a child */
        int now = set_wakeup(use->owned_before);
        if (now != arrivals.ends[1])
            set_wakeup(now); /* a handler has set another one */
        if (clock->arrived)
            drain(clock);
        waiting = use->waited;
        owner = use->owner_before;
    }
    if (use->is_armed) {
        if (clock->running) {
            struct itimerspec never = {{0, 0}, {0, 0}};
            timer_settime(clock->timer, 0, &never, NULL);
            clock->running = 0;
        }
        clock->use = NULL; /* a wait that a handler has interrupted by this one sets it again */
        if (use->any_blocked && !clock->blocked)
            pthread_sigmask(SIG_BLOCK, &use->blocked, NULL);
        clock->blocked = 0;
    }
    errno = error;
}
