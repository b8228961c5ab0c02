/* What happens between fork and exec: a plan made by the parent, carried out by the child.
 *
 * Everything here runs in a child that may share its memory with a threaded parent
 * (clone with CLONE_VM), so only async-signal-safe calls are made: no malloc, no stdio,
 * and raw system calls where glibc's wrapper would talk to the parent's other threads
 * (setuid and its kin broadcast to every thread they know of). */
#ifndef HORNPIPE_CHILD_H
#define HORNPIPE_CHILD_H

#include <errno.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* A system call without errno, and that is no cancellation point (pthreads(7)): both belong to a thread, and a child that
 * shares our memory while we go on has the same one as we. The result, or -errno. */
static inline long child_call(long number, long a, long b, long c, long d) {
#if defined(__x86_64__) && defined(__LP64__)
    long result;
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return result;
#else
    long result = syscall(number, a, b, c, d);
    return result < 0 ? -errno : result;
#endif
}

/* The step that failed; Python turns it into a sentence. Keep in step with spawn.STAGES. */
enum child_stage {
    STAGE_FORK = 0,
    STAGE_SESSION,
    STAGE_DESCRIPTORS,
    STAGE_TERMINAL,
    STAGE_FOREGROUND,
    STAGE_LIMITS,
    STAGE_CGROUP,
    STAGE_GROUPS,
    STAGE_GID,
    STAGE_UID,
    STAGE_VERIFY,
    STAGE_CWD,
    STAGE_EXEC,
};

struct child_failure {
    int error; /* errno; 0 while nothing has failed */
    int stage; /* enum child_stage */
    int which; /* the descriptor, the limit's index or the candidate's index */
};

struct child_limit {
    int resource;
    rlim_t soft, hard;
};

enum { CHILD_NULL = -2 };

struct child_plan {
    /* Descriptors: sources[i] becomes targets[i]; a source of -1 closes the target, and with CHILD_NULL there is nothing
     * to read from it: the child opens /dev/null itself, which spares us the opening and the closing.
     * Everything else above 2 is closed by exec. */
    const int *sources, *targets;
    int moves;

    uint64_t stay_ignored; /* signals that are not made default where they are ignored: bit number - 1 */
    uint64_t may_be_ignored; /* which are to be asked for, where none has a handler */
    int new_session;     /* setsid(2) */
    int new_group;       /* setpgid(2): into a group of its own, or into this one: */
    pid_t group;         /* 0 its own */
    int terminal;        /* this descriptor (child's number) becomes the controlling terminal; -1 none */
    int foreground;      /* our group becomes the foreground group of this terminal; -1 none */
    int umask;           /* -1 keeps it */
    int cgroup;          /* an open cgroup.procs to join; -1 none */
    int death_signal;    /* sent when the parent thread ends; 0 none */
    int change_ids;      /* set groups, gid and uid, and prove that there is no way back */
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    int group_count;
    const struct child_limit *limits;
    int limit_count;
    const char *cwd;     /* NULL stays */

    /* The program: the candidates are tried in order, as execvp(3) does along PATH. */
    const char *const *candidates;
    char *const *argv;
    char *const *envp;
};

/* Carries out the descriptors' part of it. 0, or -1 with *failure filled. */
int child_arrange_descriptors(const struct child_plan *plan, int *keep, struct child_failure *failure);

/* Carries out everything but signals and the exec. 0, or -1 with *failure filled. */
int child_prepare(const struct child_plan *plan, int *keep, struct child_failure *failure);

/* Gives the child default dispositions for these (bit number - 1), but for what is ignored and stays so; the mask is
 * emptied by child_exec. */
void child_reset_signals(uint64_t numbers, uint64_t stay_ignored);

/* Those that this process ignores now. */
uint64_t child_ignored_signals(void);

/* -1, with *failure filled from errno. */
int child_failed(struct child_failure *failure, int stage, int which);

/* Replaces the process; returns only on failure, with *failure filled. */
void child_exec(const struct child_plan *plan, struct child_failure *failure);

/* Whether the kernel keeps the dead for whoever waits for them (CHLD is not ignored). What does not stay cannot be asked
 * whether its timer has killed it: such a child must not share our memory. */
int child_stays_when_dead(void);

/* A start that does not hold us up: the child shares our memory until its exec, and we go on meanwhile. Whoever waits
 * for the child's end in any case is spared being woken at the exec, and needs nothing that bounds it. */
struct child_birth;

/* Begins one; a plan without candidates is for what argv[0] names. Returns the pid; or -1, where the plan asks for more
 * than this can do, where the machine cannot do it, or when it has failed: then child_launch is to be asked. *birth,
 * and all that the plan points to, stays as it is until child_has_our_memory says no more. With `alone` we are the only
 * thread, and nobody else can wait for the child. *pidfd is -1 if there is no room for one. */
pid_t child_begin(const struct child_plan *plan, int alone, struct child_birth **birth, int *pidfd);

/* Whether it has not exec'ed yet, nor ended. */
int child_has_our_memory(const struct child_birth *birth);

/* Why it has not exec'ed, of one that has ended: 1, or 0 if it has. */
int child_has_failed(const struct child_birth *birth, struct child_failure *failure);

/* Frees what child_begin has made, which must not be in use any more. */
void child_end_birth(struct child_birth *birth);

#if defined(__linux__) && defined(__x86_64__) && defined(__LP64__) && defined(SYS_clone3)
/* What clone(2) does and glibc has for it, but with a child in which no signal has a handler: else every one would have
 * to be asked for, which takes the child longer than all the rest until its exec. glibc has no clone3(2). ENOSYS where
 * there is none. `cleared` is for CLONE_CHILD_CLEARTID. */
#define CHILD_CLONES_UNHANDLED
pid_t child_clone_unhandled(uint64_t flags, int (*main)(void *), void *argument, char *stack, size_t size, int *pidfd,
                            int32_t *cleared);
#endif

/* Starts the plan's program. Returns the pid, or -1 with *failure filled (nothing is left
 * behind then: the failed child is reaped).
 *
 * share_memory: the child borrows our memory until it execs (vfork's way: cheap whatever our
 * size). Without it the child is a real fork, as it must be when credentials change, since a
 * shared memory would leave us undumpable; *report is then a descriptor on which a struct
 * child_failure arrives, or end of file once the exec has succeeded. A shared memory that the child
 * does not give back soon is taken from it: the error ETIME asks for a real fork, which cannot hold us up.
 * *pidfd is the child's pidfd where the kernel makes one, else -1. */
pid_t child_launch(const struct child_plan *plan, int share_memory, int want_pidfd,
                   int *pidfd, int *report, struct child_failure *failure);

#endif
