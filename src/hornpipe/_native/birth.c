/* Children that share our memory until their exec and do not hold us up. */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

struct child_birth {
    struct child_plan plan;
    struct child_failure failure;
    const char *program[2];
    int32_t inside; /* the kernel makes it 0 when the child gives our memory back (CLONE_CHILD_CLEARTID) */
    char stack[16384] __attribute__((aligned(16)));
};

#ifdef CHILD_CLONES_UNHANDLED
/* One is kept, for the next: its pages have been touched. */
static struct child_birth *kept;

/* Nothing here may need a thread of its own: the one whose number and errno it has is running. */
static int be_born(void *argument) {
    struct child_birth *birth = argument;
    const struct child_plan *plan = &birth->plan;
    child_reset_signals(plan->may_be_ignored, plan->stay_ignored);
    if (child_arrange_descriptors(plan, NULL, &birth->failure) == 0)
        child_exec(plan, &birth->failure);
    child_call(SYS_exit_group, 127, 0, 0, 0);
    return 0; /* it does not */
}

static int asks_for_more(const struct child_plan *plan) {
    return plan->new_session || plan->new_group || plan->terminal >= 0 || plan->foreground >= 0 || plan->umask >= 0 ||
           plan->cgroup >= 0 || plan->death_signal || plan->change_ids || plan->limit_count || plan->cwd ||
           plan->moves > 64; /* the stack is small */
}

pid_t child_begin(const struct child_plan *plan, int alone, struct child_birth **birth, int *pidfd) {
    struct child_birth *made;
    sigset_t all, before;
    pid_t pid;
    *pidfd = -1;
    if (asks_for_more(plan) || !child_stays_when_dead())
        return -1;
    made = __atomic_exchange_n(&kept, NULL, __ATOMIC_ACQ_REL);
    if (!made && !(made = malloc(sizeof *made)))
        return -1;
    made->plan = *plan;
    if (!plan->candidates) {
        made->program[0] = plan->argv[0];
        made->program[1] = NULL;
        made->plan.candidates = made->program;
    }
    made->failure = (struct child_failure){0};
    made->inside = 1;
    /* All signals blocked: one that arrives for the child before its exec waits for the child's own default. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = child_clone_unhandled(CLONE_VM | CLONE_CHILD_CLEARTID | (alone ? 0 : CLONE_PIDFD), be_born, made, made->stack,
                                sizeof made->stack, pidfd, &made->inside);
    /* Somebody else's wait(-1) cannot have been quicker then; and the child is on its way meanwhile. */
    if (pid >= 0 && alone) {
        long opened = child_call(SYS_pidfd_open, pid, 0, 0, 0);
        *pidfd = opened < 0 ? -1 : (int)opened;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0) {
        made->inside = 0;
        child_end_birth(made);
        return -1;
    }
    *birth = made;
    return pid;
}
#else
pid_t child_begin(const struct child_plan *plan, int alone, struct child_birth **birth, int *pidfd) {
    (void)plan, (void)alone, (void)birth, (void)pidfd;
    return -1;
}
static struct child_birth *kept;
#endif

int child_has_our_memory(const struct child_birth *birth) {
    return __atomic_load_n(&birth->inside, __ATOMIC_ACQUIRE) != 0;
}

int child_has_failed(const struct child_birth *birth, struct child_failure *failure) {
    *failure = birth->failure;
    return failure->error != 0;
}

void child_end_birth(struct child_birth *birth) { free(__atomic_exchange_n(&kept, birth, __ATOMIC_ACQ_REL)); }
