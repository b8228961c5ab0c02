#define _GNU_SOURCE
#include "rings.h"

#include "clock.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define CAPACITY 4096u /* records; a power of two */
#define CROWDED (CAPACITY - 1024u) /* from here on signals wait in the kernel: one more may come from each thread */
#define RELIEVED (CAPACITY / 2)
#define MOST_OF_ONE 32 /* unread records of one standard signal and origin, of which the kernel would keep one */
#define PATIENCE 10000000LL /* nanoseconds */
#define NUMBERS 65
#define THREADS 256

extern int PyErr_SetInterruptEx(int);

struct slot {
    atomic_size_t turn;
    struct signal_record record;
};

/* A bounded queue in which each slot says whose turn it is: writers claim a place by moving `head`
 * and then publish it, so a handler that interrupts another one simply takes the next place. */
struct ring {
    struct slot *slots;
    atomic_size_t head, tail;
    atomic_int wake_fd, told, in_use, ours_alone;
    atomic_llong told_when;
    atomic_int unread[2][NUMBERS]; /* [1]: of events, into which what somebody sent is not merged */
};

static struct ring rings[RING_COUNT];
int rings_marked;
static int used_rings; /* those behind have never been opened: a child that looked at them would get their pages */
static _Atomic uint64_t routes[NUMBERS];
static atomic_llong recorded[NUMBERS], merged[NUMBERS];
static atomic_int in_flight;
static struct action actions[NUMBERS][ACTION_COUNT];
static atomic_int acting[NUMBERS];
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

/* Threads in whose context a full ring has blocked signals; only they themselves can open them. */
static struct {
    atomic_int thread;
    _Atomic uint64_t blocked, wanted;
} throttled[THREADS];
static atomic_int anybody_throttled;

static int push(struct ring *ring, const struct signal_record *record) {
    size_t place = atomic_load(&ring->head);
    for (;;) {
        struct slot *slot = &ring->slots[place % CAPACITY];
        size_t turn = atomic_load_explicit(&slot->turn, memory_order_acquire);
        if (turn == place) {
            if (atomic_compare_exchange_weak(&ring->head, &place, place + 1)) {
                slot->record = *record;
                atomic_store_explicit(&slot->turn, place + 1, memory_order_release);
                return 1;
            }
        } else if ((intptr_t)(turn - place) < 0)
            return 0;
        else
            place = atomic_load(&ring->head);
    }
}

static void act(int number) {
    for (int i = 0; i < ACTION_COUNT; i++) {
        const struct action *action = &actions[number][i];
        switch (action->kind) {
        case ACTION_EXIT:
            _exit(action->number);
        case ACTION_WRITE:
            if (write(action->number, action->bytes, action->length) < 0)
                break; /* nobody to tell */
            break;
        case ACTION_KILL_GROUP:
            kill(0, action->number);
            break;
        default:
            return;
        }
    }
}

/* This thread's place in the list, for the rest of its life; -1 when it has none. */
static int place_of(int thread, int wanted) {
    for (int i = 0; i < THREADS; i++)
        if (atomic_load(&throttled[i].thread) == thread)
            return i;
    for (int i = 0; wanted && i < THREADS; i++) {
        int other = atomic_load(&throttled[i].thread);
        if (other && syscall(SYS_tgkill, getpid(), other, 0) == 0)
            continue;
        if (atomic_compare_exchange_strong(&throttled[i].thread, &other, thread)) {
            atomic_store(&throttled[i].blocked, 0);
            atomic_store(&throttled[i].wanted, 0);
            return i;
        }
    }
    return -1;
}

static int all_roomy(void) {
    for (int i = 0; i < RING_COUNT; i++)
        if (atomic_load(&rings[i].in_use) && ring_length(i) > RELIEVED)
            return 0;
    return 1;
}

static void open_again(int place, ucontext_t *context) {
    uint64_t numbers = atomic_exchange(&throttled[place].wanted, 0);
    for (int number = 1; number < NUMBERS; number++)
        if (numbers >> (number - 1) & 1)
            sigdelset(&context->uc_sigmask, number);
}

static void throttle(int number, ucontext_t *context) {
    int place = place_of((int)syscall(SYS_gettid), 1);
    if (place < 0)
        return;
    sigaddset(&context->uc_sigmask, number);
    atomic_fetch_or(&throttled[place].blocked, UINT64_C(1) << (number - 1));
    atomic_store(&anybody_throttled, 1);
    /* 1. We found the ring crowded.  2. Its reader emptied it, and found nobody throttled.  3. The line
     * above: too late, nobody would ever open us. So we look again ourselves. */
    if (all_roomy()) {
        atomic_fetch_or(&throttled[place].wanted, atomic_exchange(&throttled[place].blocked, 0));
        open_again(place, context);
    }
}

void record_of(int number, const siginfo_t *info, struct signal_record *record) {
    memset(record, 0, sizeof *record);
    record->number = number;
    record->code = info->si_code;
    record->when = monotonic_ns();
    if ((number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGFPE || number == SIGTRAP) &&
        info->si_code > 0) {
        record->address = (long long)(intptr_t)info->si_addr;
        return;
    }
    if (info->si_code != SI_KERNEL && info->si_code != SI_TIMER) {
        record->pid = info->si_pid;
        record->uid = info->si_uid;
    }
    if (number == SIGCHLD && info->si_code > 0)
        record->status = info->si_status;
    else if (info->si_code < 0 && info->si_code != SI_TKILL)
        record->value = (long long)(intptr_t)info->si_value.sival_ptr;
}

static void take_down(int number, siginfo_t *info, void *context) {
    int error = errno;
    if (!(rings_marked & RINGS_RECORDED))
        rings_marked |= RINGS_RECORDED;
    atomic_fetch_add(&in_flight, 1);
    if (atomic_load(&acting[number]))
        act(number);
    struct signal_record record;
    record_of(number, info, &record);
    atomic_fetch_add(&recorded[number], 1);

    int crowded = 0, interrupt = 0, queued = number >= SIGRTMIN, event = is_event(record.code);
    uint64_t left = atomic_load(&routes[number]);
    while (left) {
        int bit = __builtin_ctzll(left);
        struct ring *ring = &rings[bit];
        left &= left - 1;
        if (!queued && atomic_load(&ring->unread[event][number]) >= MOST_OF_ONE) {
            atomic_fetch_add(&merged[number], 1);
        } else if (push(ring, &record)) {
            atomic_fetch_add(&ring->unread[event][number], 1);
            crowded |= queued && atomic_load(&ring->head) - atomic_load(&ring->tail) >= CROWDED;
        } else {
            /* More threads than the margin has room for got it at once: back into the kernel with it,
             * where it waits behind the block until there is room. */
            crowded = 1;
            syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), number, info);
        }
        /* Told once and not for each: a storm must not fill pipes. Told again when nobody has come
         * for a while: who replaces a handler just then swallows the interpreter's call. */
        if (!atomic_exchange(&ring->told, 1) || record.when - atomic_load(&ring->told_when) > PATIENCE) {
            int fd = atomic_load(&ring->wake_fd);
            atomic_store(&ring->told_when, record.when);
            if (fd < 0)
                interrupt = 1;
            else if (write(fd, "", 1) < 0)
                errno = 0; /* full: a wake-up is under way */
        }
    }
    if (crowded)
        throttle(number, context);
    if (interrupt)
        PyErr_SetInterruptEx(number);
    atomic_fetch_sub(&in_flight, 1);
    errno = error;
}

static void reset(struct ring *ring) {
    /* Only what has been used: in a forked child each page that is written to is copied first, and all of
     * them took longer than the fork. */
    size_t used = atomic_load(&ring->head);
    for (size_t i = 0; i < CAPACITY && i < used; i++)
        atomic_store(&ring->slots[i].turn, i);
    atomic_store(&ring->head, 0);
    atomic_store(&ring->tail, 0);
    atomic_store(&ring->told, 0);
    memset((void *)ring->unread, 0, sizeof ring->unread);
}

int ring_open(int wake_fd, int ours_alone) {
    int found = -1;
    pthread_mutex_lock(&opening);
    for (int i = 0; i < RING_COUNT && found < 0; i++)
        if (!atomic_load(&rings[i].in_use))
            found = i;
    if (found < 0)
        errno = EMFILE;
    else {
        struct ring *ring = &rings[found];
        if (found >= used_rings)
            used_rings = found + 1;
        if (!ring->slots) {
            void *memory = mmap(NULL, CAPACITY * sizeof *ring->slots, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (memory == MAP_FAILED) {
                pthread_mutex_unlock(&opening);
                return -1;
            }
            ring->slots = memory; /* kept for the next one that opens this ring */
            for (size_t i = 0; i < CAPACITY; i++)
                atomic_store(&ring->slots[i].turn, i);
        }
        reset(ring);
        rings_marked |= ours_alone ? RINGS_OURS_ALONE : 0;
        atomic_store(&ring->wake_fd, wake_fd);
        atomic_store(&ring->ours_alone, ours_alone);
        atomic_store(&ring->in_use, 1);
    }
    pthread_mutex_unlock(&opening);
    return found;
}

void ring_close(int number) {
    for (int i = 1; i < NUMBERS; i++)
        ring_route(number, i, 0);
    /* A handler in another thread may have read the route before: it is soon done. In this thread
     * none can be under way, as we are not inside one. */
    while (atomic_load(&in_flight))
        sched_yield();
    atomic_store(&rings[number].wake_fd, -1);
    atomic_store(&rings[number].in_use, 0);
}

void ring_route(int ring, int number, int on) {
    if (on)
        atomic_fetch_or(&routes[number], UINT64_C(1) << ring);
    else
        atomic_fetch_and(&routes[number], ~(UINT64_C(1) << ring));
}

void ring_rearm(int number) { atomic_store(&rings[number].told, 0); }

size_t ring_length(int number) { return atomic_load(&rings[number].head) - atomic_load(&rings[number].tail); }

static void relieve(void) {
    if (!all_roomy())
        return; /* whoever empties the other one will see to it */
    atomic_store(&anybody_throttled, 0);
    int self = (int)syscall(SYS_gettid);
    for (int i = 0; i < THREADS; i++) {
        int thread = atomic_load(&throttled[i].thread);
        uint64_t blocked;
        if (!thread || !(blocked = atomic_exchange(&throttled[i].blocked, 0)))
            continue;
        atomic_fetch_or(&throttled[i].wanted, blocked);
        if (thread == self) {
            sigset_t set;
            blocked = atomic_exchange(&throttled[i].wanted, 0);
            sigemptyset(&set);
            for (int number = 1; number < NUMBERS; number++)
                if (blocked >> (number - 1) & 1)
                    sigaddset(&set, number);
            pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        } else
            syscall(SYS_tgkill, getpid(), thread, SIGRTMAX); /* unless it has ended */
    }
}

void rings_relieve(void *context) {
    int place = place_of((int)syscall(SYS_gettid), 0);
    if (place >= 0)
        open_again(place, context);
}

int ring_take(int number, struct signal_record *record) {
    struct ring *ring = &rings[number];
    size_t place = atomic_load(&ring->tail);
    for (;;) {
        struct slot *slot = &ring->slots[place % CAPACITY];
        size_t turn = atomic_load_explicit(&slot->turn, memory_order_acquire);
        if (turn != place + 1) {
            if ((intptr_t)(turn - (place + 1)) < 0)
                return 0; /* empty, or its writer is not done and will wake us when it is */
            place = atomic_load(&ring->tail);
        } else {
            *record = slot->record;
            if (atomic_compare_exchange_weak(&ring->tail, &place, place + 1)) {
                atomic_store_explicit(&slot->turn, place + CAPACITY, memory_order_release);
                break;
            }
        }
    }
    atomic_fetch_sub(&ring->unread[is_event(record->code)][record->number], 1);
    if (atomic_load(&anybody_throttled) && ring_length(number) <= RELIEVED)
        relieve();
    return 1;
}

int rings_install(int number, int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = take_down;
    /* CPython gives its handlers the alternative stack too, if there is one. */
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | flags;
    /* One at a time in each thread, in the order of their numbers. Were the clock signal let in, it could
     * open what we are about to block: the block would come last, and stay. */
    sigfillset(&action.sa_mask);
    sigdelset(&action.sa_mask, SIGSEGV); /* a fault that is blocked kills without a word of faulthandler's */
    sigdelset(&action.sa_mask, SIGBUS);
    sigdelset(&action.sa_mask, SIGILL);
    sigdelset(&action.sa_mask, SIGFPE);
    return sigaction(number, &action, NULL);
}

int rings_installed(int number) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) < 0)
        return -1;
    return (action.sa_flags & SA_SIGINFO) && action.sa_sigaction == take_down;
}

void rings_act(int number, const struct action *wanted, int count) {
    atomic_store(&acting[number], 0);
    while (atomic_load(&in_flight))
        sched_yield();
    memset(actions[number], 0, sizeof actions[number]);
    memcpy(actions[number], wanted, (size_t)count * sizeof *wanted);
    atomic_store(&acting[number], count > 0);
}

long long rings_recorded(int number) { return atomic_load(&recorded[number]); }
void rings_merge(int number) { atomic_fetch_add(&merged[number], 1); }
long long rings_merged(int number) { return atomic_load(&merged[number]); }

void rings_forget(int threads) {
    /* Nothing is written that need not be: see reset. */
    if (threads)
        pthread_mutex_init(&opening, NULL);
    if (atomic_load(&in_flight))
        atomic_store(&in_flight, 0);
    for (int i = 0; i < used_rings; i++)
        if (atomic_load(&rings[i].in_use) && atomic_load(&rings[i].ours_alone)) {
            for (int number = 1; number < NUMBERS; number++)
                if (atomic_load(&routes[number]) >> i & 1)
                    ring_route(i, number, 0);
            atomic_store(&rings[i].wake_fd, -1);
        } else if (rings[i].slots && atomic_load(&rings[i].head))
            reset(&rings[i]);
    if (atomic_load(&anybody_throttled)) {
        memset((void *)throttled, 0, sizeof throttled);
        atomic_store(&anybody_throttled, 0);
    }
}

void rings_abandon(int kept) {
    for (int i = 1; i < NUMBERS; i++) {
        atomic_store(&routes[i], 0);
        atomic_store(&acting[i], 0);
    }
    for (int i = 0; i < RING_COUNT; i++)
        if (i != kept) {
            /* Its descriptor is closed here, and the number may be any file's. */
            atomic_store(&rings[i].wake_fd, -1);
            atomic_store(&rings[i].in_use, 0);
        }
}
