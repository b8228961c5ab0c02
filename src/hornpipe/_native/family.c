/* Finding descendants in /proc (proc(5)), and signalling them by pidfd. No policy. */
#define _GNU_SOURCE
#include "family.h"
#include "cgroup.h"
#include "pidfd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct processes family;
static struct processes others;
static int pass, found;
static pid_t self;

static void push(struct processes *list, const struct process *process) {
    if (list->count == list->room) {
        struct process *more = realloc(list->at, (list->room * 2 + 64) * sizeof *more);
        if (!more)
            return; /* the next round finds it again, with fewer about */
        list->at = more;
        list->room = list->room * 2 + 64;
    }
    list->at[list->count++] = *process;
}

static int read_process(pid_t pid, struct process *process) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (size <= 0)
        return 0;
    text[size] = 0;
    char *at = strrchr(text, ')'); /* the name before it may hold anything, brackets too */
    if (!at || at + 2 >= text + size)
        return 0;
    process->pid = pid;
    process->state = at[2];
    process->parent = (pid_t)strtol(at + 3, &at, 10);
    unsigned long long threads = 0;
    for (int field = 5; field < 22; field++) {
        unsigned long long value = strtoull(at, &at, 10);
        threads = field == 20 ? value : threads;
    }
    process->start = strtoull(at, &at, 10);
    return process->state != 'Z' || threads > 1; /* one whose first thread has ended lives on */
}

int own_child(pid_t pid) {
    siginfo_t facts;
    return waitid(P_PID, (id_t)pid, &facts, WEXITED | WNOHANG | WNOWAIT) == 0;
}

void signal_process(const struct process *target, int number) {
    /* The number of a child of ours cannot pass to a stranger before we reap it, and we reap
     * nobody meanwhile. Anybody else may end at any moment, and the number be given away. So:
     *   1. the pidfd is opened, on whoever has the number now;
     *   2. then the identity is checked (again), by that number;
     *   3. then the signal is sent, which succeeds only if the pidfd's process is still there;
     *      if so it had the number in 2 as well, hence it is the one that was checked. */
    if (target->kinship == CHILD) {
        if (own_child(target->pid)) {
            kill(target->pid, number);
            if (number == SIGTERM)
                kill(target->pid, SIGCONT);
        }
        return;
    }
    int pidfd = open_pidfd(target->pid);
    if (pidfd < 0 && errno == ESRCH)
        return;
    struct process again;
    int same = target->kinship == MEMBER ? cgroup_has(target->pid)
                                         : read_process(target->pid, &again) && again.start == target->start;
    /* A stopped process acts on TERM only when it continues. Without pidfds (before Linux 5.3, or
     * none left) a gap of microseconds stays between the check and the signal. */
    for (int next = number; same && next; next = next == SIGTERM ? SIGCONT : 0)
        if (pidfd < 0)
            kill(target->pid, next);
        else
            signal_pidfd(pidfd, next);
    if (pidfd >= 0)
        close(pidfd);
}

/* Takes it into the family if it belongs there; whoever is new gets the signal at once, not after
 * the scan: a process that forks and exits without pause does not live for the length of one. */
static int claim(struct process *process, int number) {
    struct process *known = NULL;
    int ours = process->parent == self;
    for (int i = 0; i < family.count; i++) {
        struct process *other = &family.at[i];
        if (other->pid == process->parent && other->pass == pass)
            ours = 1;
        if (other->pid == process->pid && other->start == process->start)
            known = other;
    }
    if (!ours)
        return 0;
    process->pass = pass;
    process->kinship = process->parent == self ? CHILD : DESCENDANT;
    if (known)
        *known = *process;
    else {
        push(&family, process);
        signal_process(process, number);
        found++;
    }
    return 1;
}

int family_signal_new(int number) {
    char link[16] = "", own[16];
    self = getpid();
    snprintf(own, sizeof own, "%d", (int)self);
    /* A /proc of another pid namespace has other numbers: none is better than that one. */
    DIR *proc = readlink("/proc/self", link, sizeof link - 1) > 0 && !strcmp(link, own) ? opendir("/proc") : NULL;
    struct process process;
    pass++;
    found = others.count = 0;
    for (struct dirent *entry; proc && (entry = readdir(proc));)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && read_process(atoi(entry->d_name), &process) &&
            !claim(&process, number))
            push(&others, &process);
    if (proc)
        closedir(proc);
    /* Parents mostly come before their children; where numbers have wrapped, they do not. */
    for (int moved = 1; moved;) {
        moved = 0;
        for (int i = 0; i < others.count; i++)
            if (claim(&others.at[i], number)) {
                others.at[i--] = others.at[--others.count];
                moved = 1;
            }
    }
    /* Somebody else may have put a process into our cgroup that is no descendant of ours. */
    FILE *members = cgroup_members();
    int pid;
    while (members && fscanf(members, "%d", &pid) == 1) {
        int known = pid <= 0 || pid == self; /* 0: not in our pid namespace */
        for (int i = 0; !known && i < family.count; i++)
            known = family.at[i].pid == pid;
        if (!known) {
            process = (struct process){.pid = pid, .state = '?', .kinship = MEMBER, .pass = pass};
            push(&family, &process);
            signal_process(&process, number);
            found++;
        }
    }
    if (members)
        fclose(members);
    return found;
}
