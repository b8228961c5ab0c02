#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

static int failed_by(long error, struct child_failure *failure, int stage, int which) {
    failure->error = (int)error;
    failure->stage = stage;
    failure->which = which;
    return -1;
}

int child_failed(struct child_failure *failure, int stage, int which) {
    return failed_by(errno, failure, stage, which);
}

/* exec resets handlers but keeps SIG_IGN, and until the exec a handler of the parent must not run here, in what may be
 * the parent's memory: so everything goes to the default. */
#if defined(__x86_64__) || defined(__aarch64__)
/* Raw calls: glibc refuses 32 and 33, its own, which a parent that used raw calls may have left ignored. The kernel's
 * structure begins with the handler, SIG_DFL is 0 in all of it, and SIG_IGN 1. */
static unsigned long disposition(int number) {
    unsigned long action[4];
    return child_call(SYS_rt_sigaction, number, 0, (long)action, 8) == 0 ? action[0] : 0;
}

static void make_default(int number) {
    unsigned long action[4] = {0};
    child_call(SYS_rt_sigaction, number, (long)action, 0, 8);
}
#else
static unsigned long disposition(int number) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) < 0)
        return 0;
    return action.sa_handler == SIG_IGN ? 1 : action.sa_handler != SIG_DFL || (action.sa_flags & SA_SIGINFO) ? 2 : 0;
}

static void make_default(int number) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}
#endif

void child_reset_signals(uint64_t numbers, uint64_t stay_ignored) {
    /* Asking first is cheaper than setting: most signals have never been touched. */
    for (; numbers; numbers &= numbers - 1) {
        int number = __builtin_ctzll(numbers) + 1;
        unsigned long found = disposition(number);
        if (found != 0 && !(found == 1 && stay_ignored >> (number - 1) & 1))
            make_default(number);
    }
}

uint64_t child_ignored_signals(void) {
    uint64_t found = 0;
    for (int number = 1; number < NSIG; number++)
        if (disposition(number) == 1)
            found |= 1ULL << (number - 1);
    return found;
}

int child_stays_when_dead(void) {
    struct sigaction now;
    return sigaction(SIGCHLD, NULL, &now) < 0 || (now.sa_handler != SIG_IGN && !(now.sa_flags & SA_NOCLDWAIT));
}

#ifdef SYS_getdents64
struct directory_entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};
#endif

static void mark_close_on_exec(void) {
    /* Our own descriptors all are; those that C libraries or os.set_inheritable opened up are not. */
#ifdef SYS_close_range
    if (child_call(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC, 0) == 0)
        return;
#endif
#ifdef SYS_getdents64
    /* Before Linux 5.11: walk the directory by the raw call, since opendir(3) allocates. */
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    int directory = (int)child_call(SYS_openat, AT_FDCWD, (long)"/proc/self/fd", flags, 0);
    if (directory >= 0) {
        char buffer[2048] __attribute__((aligned(8)));
        long size;
        while ((size = child_call(SYS_getdents64, directory, (long)buffer, sizeof buffer, 0)) > 0)
            for (long at = 0; at < size;) {
                struct directory_entry *entry = (struct directory_entry *)(buffer + at);
                int fd = 0;
                for (const char *digit = entry->name; *digit >= '0' && *digit <= '9'; digit++)
                    fd = fd * 10 + (*digit - '0');
                if (fd > 2)
                    child_call(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC, 0);
                at += entry->length;
            }
        child_call(SYS_close, directory, 0, 0, 0);
        return;
    }
#endif
    struct rlimit limit;
    int end = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536 ? (int)limit.rlim_cur : 65536;
    for (int fd = 3; fd < end; fd++)
        child_call(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC, 0);
}

static int is_target(const struct child_plan *plan, int fd) {
    for (int i = 0; i < plan->moves; i++)
        if (plan->targets[i] == fd)
            return 1;
    return 0;
}

/* A copy of it, or -errno. */
static int lift(const struct child_plan *plan, int fd) {
    /* A copy on the lowest number that is no target, since a minimum above the highest target is
     * refused when that one is the last the limit allows. Copies on the way vanish with exec. */
    long copy = 2;
    do
        copy = child_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, copy + 1, 0);
    while (copy >= 0 && is_target(plan, (int)copy));
    return (int)copy;
}

/* Its copy on that number, which is not close-on-exec: 0, or -errno. */
static int put(int fd, int target) {
    /* dup2(n, n) does nothing, so it would leave close-on-exec set. */
    long result = fd == target ? child_call(SYS_fcntl, fd, F_SETFD, 0, 0) : child_call(SYS_dup3, fd, target, 0, 0);
    return result < 0 ? (int)result : 0;
}

int child_arrange_descriptors(const struct child_plan *plan, int *keep, struct child_failure *failure) {
    int error;
    mark_close_on_exec();
    /* dup2 onto a number that is still wanted as a source would destroy it, and the numbers of
     * parent and child may cross in any way: so whatever lies on a target is lifted off it first. */
    if (keep && *keep >= 0 && is_target(plan, *keep)) {
        int lifted = lift(plan, *keep);
        if (lifted < 0)
            return failed_by(-lifted, failure, STAGE_DESCRIPTORS, *keep);
        *keep = lifted;
    }
    int lifted[plan->moves + 1];
    for (int i = 0; i < plan->moves; i++) {
        lifted[i] = plan->sources[i];
        if (lifted[i] >= 0 && lifted[i] != plan->targets[i] && is_target(plan, lifted[i])) {
            lifted[i] = lift(plan, plan->sources[i]);
            if (lifted[i] < 0)
                return failed_by(-lifted[i], failure, STAGE_DESCRIPTORS, plan->sources[i]);
        }
    }
    for (int i = 0; i < plan->moves; i++) {
        int target = plan->targets[i];
        if (lifted[i] == CHILD_NULL) {
            child_call(SYS_close, target, 0, 0, 0);
            int opened = (int)child_call(SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDONLY, 0);
            error = opened < 0 ? opened : put(opened, target);
            if (error == 0 && opened != target)
                child_call(SYS_close, opened, 0, 0, 0);
        } else if (lifted[i] < 0) {
            child_call(SYS_close, target, 0, 0, 0);
            error = 0;
        } else
            error = put(lifted[i], target);
        if (error < 0)
            return failed_by(-error, failure, STAGE_DESCRIPTORS, target);
    }
    return 0;
}

static int change_ids(const struct child_plan *plan, struct child_failure *failure) {
    /* Groups, gid, uid: in any other order the later calls lack the privilege (EPERM). All three
     * ids are set, because a saved id is a way back. Raw calls: glibc's would signal the parent's
     * other threads from a copy of their table. An unprivileged process may only stay what it is. */
    gid_t now[1024]; /* the stack is small; a longer list is simply set anew */
    int count = getgroups(sizeof now / sizeof *now, now);
    int same = count == plan->group_count;
    for (int i = 0; same && i < count; i++) {
        int found = 0, known = 0;
        for (int j = 0; j < plan->group_count; j++) {
            found |= now[i] == plan->groups[j];
            known |= now[j] == plan->groups[i];
        }
        same = found && known;
    }
    if (!same && syscall(SYS_setgroups, (size_t)plan->group_count, plan->groups) < 0)
        return child_failed(failure, STAGE_GROUPS, plan->group_count);
    if (syscall(SYS_setresgid, plan->gid, plan->gid, plan->gid) < 0)
        return child_failed(failure, STAGE_GID, (int)plan->gid);
    if (syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid) < 0)
        return child_failed(failure, STAGE_UID, (int)plan->uid);

    uid_t real_uid, effective_uid, saved_uid;
    gid_t real_gid, effective_gid, saved_gid;
    if (getresuid(&real_uid, &effective_uid, &saved_uid) < 0 || getresgid(&real_gid, &effective_gid, &saved_gid) < 0)
        return child_failed(failure, STAGE_VERIFY, 0);
    errno = EPERM;
    if (real_uid != plan->uid || effective_uid != plan->uid || saved_uid != plan->uid ||
        real_gid != plan->gid || effective_gid != plan->gid || saved_gid != plan->gid)
        return child_failed(failure, STAGE_VERIFY, 1);
    /* A capability that outlived the change (a "keep caps" bit set by the caller) would be a way
     * back. So the way back is tried, and success is the failure. */
    if (plan->uid != 0 && syscall(SYS_setresuid, (uid_t)-1, (uid_t)0, (uid_t)-1) == 0) {
        errno = EPERM;
        return child_failed(failure, STAGE_VERIFY, 2);
    }
    return 0;
}

int child_prepare(const struct child_plan *plan, int *keep, struct child_failure *failure) {
    if (plan->new_session && setsid() < 0)
        return child_failed(failure, STAGE_SESSION, 0);
    if (plan->new_group && !plan->new_session && setpgid(0, plan->group) < 0)
        return child_failed(failure, STAGE_SESSION, 1);
    /* Joined before the descriptors move: cgroup.procs has a number of the parent's. */
    if (plan->cgroup >= 0 && write(plan->cgroup, "0", 1) < 0)
        return child_failed(failure, STAGE_CGROUP, plan->cgroup);
    /* TTOU is blocked here (everything is), so a background group may take the terminal. */
    if (plan->foreground >= 0 && tcsetpgrp(plan->foreground, getpgrp()) < 0)
        return child_failed(failure, STAGE_FOREGROUND, plan->foreground);
    if (child_arrange_descriptors(plan, keep, failure) < 0)
        return -1;
    if (plan->terminal >= 0 && ioctl(plan->terminal, TIOCSCTTY, 0) < 0)
        return child_failed(failure, STAGE_TERMINAL, plan->terminal);
    if (plan->umask >= 0)
        umask((mode_t)plan->umask);
    for (int i = 0; i < plan->limit_count; i++) {
        struct rlimit limit = {plan->limits[i].soft, plan->limits[i].hard};
        if (setrlimit(plan->limits[i].resource, &limit) < 0)
            return child_failed(failure, STAGE_LIMITS, i);
    }
    if (plan->change_ids && change_ids(plan, failure) < 0)
        return -1;
    /* As the new user: a directory that user may not enter is refused here, not met later. */
    if (plan->cwd && chdir(plan->cwd) < 0)
        return child_failed(failure, STAGE_CWD, 0);
#ifdef __linux__
    /* After the ids, since changing them clears it. Only single-threaded parents set it: the
     * signal comes when the *thread* that forked ends. Whoever asks for it also has to look whether
     * the parent is still there, for a death before this call is not announced. */
    if (plan->death_signal && prctl(PR_SET_PDEATHSIG, plan->death_signal, 0, 0, 0) < 0)
        return child_failed(failure, STAGE_SESSION, 2);
#endif
    return 0;
}

void child_exec(const struct child_plan *plan, struct child_failure *failure) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int refused = 0, which = 0;
    long error = ENOENT;
    for (int i = 0; plan->candidates[i]; i++) {
        error = -child_call(SYS_execve, (long)plan->candidates[i], (long)plan->argv, (long)plan->envp, 0);
        which = i;
        if (error == EACCES) { /* execvp(3) looks further, and reports this one if nothing is found */
            if (!refused)
                refused = i + 1;
        } else if (error != ENOENT && error != ENOTDIR)
            break;
    }
    if (refused && (error == ENOENT || error == ENOTDIR)) {
        error = EACCES;
        which = refused - 1;
    }
    failed_by(error, failure, STAGE_EXEC, which);
}
