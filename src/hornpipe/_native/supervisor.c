/* The supervisor: a tiny static program that starts another one and is its containment.
 *
 * The caller execs it in a process group of its own, with the program's stdio on 0, 1 and 2 and
 * further descriptors at their final numbers. When the program ends, when the caller dies or says
 * so, or when the deadline passes, nothing of the program's tree survives. It is a process, not a
 * thread of the caller, because it has to outlive a KILL of the caller; and a small one, because
 * forking the caller costs by the caller's size.
 *
 *   supervisor KEY=VALUE... -- CANDIDATE... -- ARGV0 ARG...
 *
 *   control=FD parent=PID      the socket to the caller (SOCK_SEQPACKET, also the lifeline); the caller
 *   deadline=NS grace=NS       monotonic instant or -1; from TERM to KILL (negative: no KILL)
 *   contain=0|1 cgroup=DIR     the tree or only the group; where to make a cgroup (version 2)
 *   ids=UID:GID:G1,G2 limits=RESOURCE:SOFT:HARD;... umask=OCTAL cwd=PATH session=0|1
 *   terminal=FD foreground=FD group=PGID fds=3,5    see struct child_plan
 *   adopt=PID gate=FD          supervise a child we have already (from before our exec); where it waits for
 *                              a byte before it does anything of its own
 *   hold=1                     start nothing: be there until the caller ends, and lead a group that others join
 *
 * What it cannot hold: a setuid program when we are not privileged ourselves, work handed to a
 * daemon, and, if we are KILLed ourselves, all but the program. A hostile swarm that forks and exits
 * without pause takes seconds where there is neither a cgroup nor CONFIG_PROC_CHILDREN. */
#define _GNU_SOURCE
#include "child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open /* one number for every architecture but alpha */
#define SYS_pidfd_open 434
#define SYS_pidfd_send_signal 424
#endif

/* Keep in step with contain.py. */
enum report_kind { STARTED = 1, FAILED, STOPPED, EXITED, EXPIRED, SURVIVORS };
enum order_kind { SIGNAL = 1, TERMINATE, RESUME };
enum rung { RUNG_NONE, RUNG_SUBREAPER, RUNG_CGROUP };
struct report { int32_t kind, a, b, c; };
struct order { int32_t kind, a; int64_t b; };

enum { MILLISECOND = 1000000 };

/* From the command line. */
static int control = -1, contain = 1, gate = -1, holding;
static pid_t parent, adopted;
static int64_t deadline = -1, grace;
static const char *cgroup_base;
static int *passed, passed_count;
/* Whatever is ignored here was left so by the caller, for the program's sake. */
static struct child_plan plan = {.stay_ignored = ~0ULL, .terminal = -1, .foreground = -1, .umask = -1, .cgroup = -1,
                                 .death_signal = SIGKILL};

/* As things stand. */
static pid_t self, program;               /* program: 0 before its start and after its end */
static int ended, result;                 /* whether only leftovers are to wait for; our exit status */
static int parent_fd = -1, start_fd = -1; /* the caller's pidfd; child_launch's report while it is out */
static int children, reaped_count;        /* whether there are any; how many there have been */
static int told_stopped, told_survivors;
static int64_t kill_at = -1, killing_since = -1, next_round, pause_between = 2 * MILLISECOND;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t later(int64_t base, int64_t delay) { /* -1: never */
    int64_t sum;
    return delay < 0 || __builtin_add_overflow(base, delay, &sum) ? -1 : sum;
}

static void begin_killing(void) {
    if (killing_since >= 0)
        return;
    killing_since = now();
    next_round = killing_since + pause_between; /* mostly over by then */
}

static void tell(int kind, int a, int b, int c) {
    /* Never blocks: a caller that does not read must not keep us from killing. EAGAIN cannot hit a
     * message that counts, for the queue holds hundreds and the only kind that repeats, STOPPED, is
     * sent once for each RESUME. */
    struct report report = {kind, a, b, c};
    if (control >= 0 && send(control, &report, sizeof report, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
        begin_killing();
}

static int open_pidfd(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

/* ---- The cgroup: kills a whole tree at one stroke, however fast it forks ------------------- */

static char cgroup_name[32];
static int cgroup_parent = -1, cgroup_dir = -1, cgroup_kill = -1, cgroup_events = -1;

static int populated(void) {
    /* Reading also re-arms POLLPRI, which reports changes since the last read. */
    char text[128] = "";
    return cgroup_events >= 0 && pread(cgroup_events, text, sizeof text - 1, 0) > 0 && strstr(text, "populated 1");
}

static int remove_tree(int at, const char *name, int depth) {
    /* A supervisor below ours, killed with the rest, has left a cgroup of its own in ours. */
    if (unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    int fd = depth > 0 ? openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            remove_tree(fd, entry->d_name, depth - 1);
    if (directory)
        closedir(directory);
    return unlinkat(at, name, AT_REMOVEDIR);
}

static void remove_cgroup(void) {
    /* EBUSY until the last member is quite gone; the kernel tells when. Half a second at most. */
    for (int tries = 20; *cgroup_name && remove_tree(cgroup_parent, cgroup_name, 32) < 0 && tries > 0; tries--) {
        struct pollfd change = {cgroup_events, POLLPRI, 0};
        poll(&change, 1, populated() ? 25 : 5);
    }
    *cgroup_name = 0;
    plan.cgroup = cgroup_dir = cgroup_kill = cgroup_events = -1; /* left open: they are close-on-exec */
}

static void make_cgroup(void) {
    cgroup_parent = open(cgroup_base, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(cgroup_name, sizeof cgroup_name, "hornpipe-%d", (int)self);
    /* One with our name is what a KILLed predecessor left; one that cannot be removed is in use
     * (another pid namespace has our number too) and left alone. */
    if (mkdirat(cgroup_parent, cgroup_name, 0755) < 0 &&
        (errno != EEXIST || unlinkat(cgroup_parent, cgroup_name, AT_REMOVEDIR) < 0 ||
         mkdirat(cgroup_parent, cgroup_name, 0755) < 0)) {
        *cgroup_name = 0;
        return;
    }
    cgroup_dir = openat(cgroup_parent, cgroup_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cgroup_events = openat(cgroup_dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
    cgroup_kill = openat(cgroup_dir, "cgroup.kill", O_WRONLY | O_CLOEXEC); /* Linux 5.14 */
    plan.cgroup = openat(cgroup_dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (cgroup_events < 0 || cgroup_kill < 0 || plan.cgroup < 0)
        remove_cgroup();
}

static FILE *open_members(void) {
    int fd = cgroup_dir >= 0 ? openat(cgroup_dir, "cgroup.procs", O_RDONLY | O_CLOEXEC) : -1;
    return fd >= 0 ? fdopen(fd, "r") : NULL;
}

static int is_member(pid_t pid) {
    FILE *members = open_members();
    int other, found = 0;
    while (members && !found && fscanf(members, "%d", &other) == 1)
        found = other == pid;
    if (members)
        fclose(members);
    return found;
}

/* ---- The tree: who descends from us, and signals that hit only them ------------------------- */

enum kinship { CHILD, DESCENDANT, MEMBER };

struct process {
    pid_t pid, parent;
    unsigned long long start; /* with the pid, the identity of a process */
    char state;
    enum kinship kinship;
    int pass; /* of the last scan that saw it */
};
struct list { struct process *at; int count, room; };
static struct list tree, others;
static int pass, found;

static void push(struct list *list, const struct process *process) {
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

static int own_child(pid_t pid) {
    /* The kernel's word: no /proc needed, and nothing is reaped. */
    siginfo_t facts;
    return waitid(P_PID, (id_t)pid, &facts, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void signal_process(const struct process *target, int number) {
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
    int same = target->kinship == MEMBER ? is_member(target->pid)
                                         : read_process(target->pid, &again) && again.start == target->start;
    /* A stopped process acts on TERM only when it continues. Without pidfds (before Linux 5.3, or
     * none left) a gap of microseconds stays between the check and the signal. */
    for (int next = number; same && next; next = next == SIGTERM ? SIGCONT : 0)
        if (pidfd < 0)
            kill(target->pid, next);
        else
            syscall(SYS_pidfd_send_signal, pidfd, next, NULL, 0);
    if (pidfd >= 0)
        close(pidfd);
}

/* Takes it into the tree if it belongs there; whoever is new gets the signal at once, not after
 * the scan: a process that forks and exits without pause does not live for the length of one. */
static int claim(struct process *process, int number) {
    struct process *known = NULL;
    int ours = process->parent == self;
    for (int i = 0; i < tree.count; i++) {
        struct process *other = &tree.at[i];
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
        push(&tree, process);
        signal_process(process, number);
        found++;
    }
    return 1;
}

/* Signals all that are not in the tree yet, and adds them. How many that were. */
static int scan(int number) {
    char link[16] = "", own[16];
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
    FILE *members = open_members();
    int pid;
    while (members && fscanf(members, "%d", &pid) == 1) {
        int known = pid <= 0 || pid == self; /* 0: not in our pid namespace */
        for (int i = 0; !known && i < tree.count; i++)
            known = tree.at[i].pid == pid;
        if (!known) {
            process = (struct process){.pid = pid, .state = '?', .kinship = MEMBER, .pass = pass};
            push(&tree, &process);
            signal_process(&process, number);
            found++;
        }
    }
    if (members)
        fclose(members);
    return found;
}

static int shared_group(void) { return plan.group > 0 && getpgid(program) == plan.group; }

static void signal_group(int number) {
    /* Only while its leader is not reaped, or the program still in it, else the number could be another group's by now. */
    if (program > 0 && kill(shared_group() ? -plan.group : -program, number) < 0)
        kill(program, number); /* adopted, and it leads no group (yet) */
    if (number == SIGTERM)
        signal_group(SIGCONT);
}

static void signal_all(int number) {
    if (number == SIGCONT)
        told_stopped = 0;
    tree.count = 0;
    /* Twice: a fork in progress shows its child only to the second scan. Each gets one signal. */
    if (contain && (scan(number), scan(number), tree.count))
        return;
    signal_group(number);
}

static int reap(void);

/* A process that forks can outrun one that kills by list. Two ways are taken by turns:
 *
 * kill_children, after each death: our own children are killed, by a list the kernel keeps, within
 * microseconds. That orphans theirs, who become ours, so it goes through the tree by generations
 * (and catches those who fork and exit without pause). In the end we have no child; as every orphan
 * is handed to us, nobody is left then.
 *
 * kill_tree, every few milliseconds, against trees that grow faster at the bottom than that:
 *   1. STOP to all: from then on they cannot fork; the scan is repeated until it shows nobody new;
 *   2. KILL, which a stopped process obeys. (Where that orphans a process group, the kernel sends
 *      HUP and CONT to its stopped members: they have microseconds until their KILL.)
 *   3. Who slipped through is met by the next round. */
static void kill_children(void) {
    char path[48];
    if (cgroup_kill >= 0 && write(cgroup_kill, "1", 1) < 0)
        cgroup_kill = -1;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)self);
    FILE *list = fopen(path, "re"); /* CONFIG_PROC_CHILDREN; without it kill_tree has to do */
    int pid;
    while (list && fscanf(list, "%d", &pid) == 1)
        if (own_child(pid))
            kill(pid, SIGKILL);
    if (list)
        fclose(list);
}

static void kill_tree(void) {
    static int blind;
    int deaths = reaped_count, before = deaths - 1;
    tree.count = 0;
    for (int passes = 16; passes > 0 && (children = reap()) && (scan(SIGSTOP) > 0 || before != reaped_count); passes--)
        before = reaped_count;
    for (int i = 0; i < tree.count; i++)
        signal_process(&tree.at[i], SIGKILL);
    /* Children there are, none of them ends, and /proc is missing or does not show them: every number
     * there can be is tried. Half a second for one generation, but sure. */
    blind = tree.count || !children || deaths != reaped_count ? 0 : blind + 1;
    for (pid_t pid = 2; blind >= 3 && pid <= 4194304; pid++)
        if (own_child(pid))
            kill(pid, SIGKILL);
}

static void killing_round(void) {
    if (contain)
        kill_tree();
    int64_t when = now(), report_at = killing_since + 50 * MILLISECOND;
    /* Who is runnable is dying and waits for a processor. Where nobody is seen, one there must be. */
    int held = !tree.count && (children || populated()), some[2] = {program, 0};
    for (int i = 0; i < tree.count; i++)
        if (tree.at[i].state != 'R' && held++ < 2)
            some[held - 1] = tree.at[i].pid;
    if (!told_survivors && when >= report_at && held) {
        told_survivors = 1;
        tell(SURVIVORS, held, some[0], some[1]);
    }
    /* A death wakes us anyway; this is for those who slipped through, and for the unkillable. On a
     * busy machine the killed need the processor in order to die: so more and more seldom. */
    pause_between = pause_between < 50 * MILLISECOND ? pause_between * 2 : 100 * MILLISECOND;
    next_round = when + pause_between;
    if (when < report_at && next_round > report_at)
        next_round = report_at;
}

/* ---- The program's life ------------------------------------------------------------------- */

static void release_descriptors(void) {
    /* Else its pipes would not end before we do. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++)
        if (null < 0 || dup2(null, fd) < 0)
            close(fd);
    if (null > 2)
        close(null);
    for (int i = 0; i < passed_count; i++)
        if (passed[i] > 2)
            close(passed[i]);
    if (plan.terminal > 2)
        close(plan.terminal);
    if (plan.foreground > 2)
        close(plan.foreground);
}

static void fail(struct child_failure failure) {
    program = 0;
    ended = 1;
    result = 127;
    tell(FAILED, failure.error, failure.stage, failure.which);
}

static void started(void) {
    release_descriptors();
    tell(STARTED, program, !contain ? RUNG_NONE : cgroup_kill >= 0 ? RUNG_CGROUP : RUNG_SUBREAPER, 0);
}

static void start(void) {
    /* Forked, not vforked, even where the credentials stay: an exec from a slow file system would
     * suspend us, and with us the deadline and the lifeline. We are small: it costs 0.1 ms. */
    struct child_failure failure;
    int pidfd;
    program = child_launch(&plan, 0, 0, &pidfd, &start_fd, &failure);
    if (program < 0)
        fail(failure);
}

static void read_start(void) {
    struct child_failure failure;
    ssize_t size = read(start_fd, &failure, sizeof failure);
    close(start_fd);
    start_fd = -1;
    if (size != (ssize_t)sizeof failure)
        started(); /* or killed before it got that far: its end follows */
    else if (failure.stage == STAGE_CGROUP && killing_since < 0) {
        remove_cgroup(); /* not permitted to join: the next rung */
        start();
    } else
        fail(failure);
}

/* Whether there are children left. Everybody's: orphans are ours too. */
static int reap(void) {
    siginfo_t facts = {0};
    /* Stops are asked of the program alone, and not once we stop it ourselves. */
    if ((plan.foreground >= 0 || plan.group > 0) && program > 0 && killing_since < 0 &&
        waitid(P_PID, (id_t)program, &facts, WSTOPPED | WNOHANG) == 0 && facts.si_pid && !told_stopped) {
        told_stopped = 1;
        tell(STOPPED, facts.si_status, 0, 0);
    }
    for (;;) {
        facts.si_pid = 0;
        if (waitid(P_ALL, 0, &facts, WEXITED | WNOHANG | WNOWAIT) < 0)
            return errno != ECHILD;
        if (!facts.si_pid)
            return 1;
        if (facts.si_pid == program && start_fd >= 0)
            read_start(); /* it cannot block: its only writer is dead */
        if (facts.si_pid == program) {
            tell(EXITED, facts.si_code == CLD_EXITED ? (facts.si_status & 0xff) << 8
                                                     : facts.si_status | (facts.si_code == CLD_DUMPED ? 0x80 : 0), 0, 0);
            if (contain && !shared_group()) /* the other stages of a pipeline go on */
                signal_group(SIGKILL); /* before the reaping, while the number is surely its */
            program = 0;
            ended = 1;
        }
        waitpid(facts.si_pid, NULL, 0);
        reaped_count++;
    }
}

static void obey(void) {
    struct order order;
    for (;;) {
        ssize_t size = recv(control, &order, sizeof order, MSG_DONTWAIT);
        if (size < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (size <= 0) { /* end of file, or a reset because it died with messages of ours unread */
            close(control);
            control = -1;
            begin_killing();
            return;
        }
        if (size != (ssize_t)sizeof order || killing_since >= 0)
            continue;
        if (order.kind == SIGNAL && order.a == SIGKILL)
            begin_killing();
        else if (order.kind == SIGNAL)
            signal_all(order.a);
        else if (order.kind == TERMINATE) {
            int64_t then = later(now(), order.b);
            if (then >= 0 && (kill_at < 0 || then < kill_at)) /* a second one can only hurry */
                kill_at = then;
            signal_all(SIGTERM);
        } else if (order.kind == RESUME) {
            told_stopped = 0;
            signal_group(SIGCONT);
        }
    }
}

static void supervise(int signal_fd) {
    int killed_at = -1; /* reaped_count as it was at the last kill_children */
    for (;;) {
        children = reap();
        if (ended && (!contain || (!children && !populated())))
            return;
        int64_t when = now(), next = -1;
        if (ended || (kill_at >= 0 && when >= kill_at))
            begin_killing();
        else if (deadline >= 0 && when >= deadline && killing_since < 0) {
            tell(EXPIRED, 0, 0, 0);
            int64_t then = later(deadline, grace); /* not from now: being late must not add up */
            if (then >= 0 && (kill_at < 0 || then < kill_at))
                kill_at = then;
            deadline = -1;
            signal_all(SIGTERM);
            continue;
        }
        if (killing_since >= 0 && (killed_at != reaped_count || when >= next_round)) {
            killed_at = reaped_count;
            signal_group(SIGKILL);
            if (contain)
                kill_children();
        }
        if (killing_since >= 0 && when >= next_round) {
            killing_round();
            continue;
        }
        if (killing_since >= 0)
            next = next_round;
        else if (deadline >= 0 && (kill_at < 0 || deadline < kill_at))
            next = deadline;
        else
            next = kill_at;
        if (parent_fd < 0 && parent && (next < 0 || next > when + 100 * MILLISECOND))
            next = when + 100 * MILLISECOND;

        struct pollfd set[] = {{control, POLLIN, 0}, {parent_fd, POLLIN, 0}, {signal_fd, POLLIN, 0},
                               {start_fd, POLLIN, 0}, {children ? -1 : cgroup_events, POLLPRI, 0}};
        int64_t left = next < 0 || next < when ? 0 : next - when;
        struct timespec limit = {left / 1000000000, left % 1000000000};
        ppoll(set, sizeof set / sizeof *set, next < 0 ? NULL : &limit, NULL);

        struct signalfd_siginfo arrived[4]; /* its facts are of no use: one CHLD stands for many deaths */
        while (set[2].revents && read(signal_fd, arrived, sizeof arrived) == sizeof arrived)
            ;
        if (start_fd >= 0 && set[3].revents)
            read_start();
        if (set[0].revents)
            obey();
        if (set[1].revents || (parent_fd < 0 && parent && getppid() != parent)) {
            parent_fd = -1;
            parent = 0;
            begin_killing();
        }
    }
}

/* ---- The command line --------------------------------------------------------------------- */

static unsigned long long next_number(char **at, int base, int *bad) {
    char *end;
    unsigned long long value = strtoull(*at, &end, base); /* "-1" is the highest: RLIM_INFINITY, or int -1 */
    *bad |= end == *at;
    *at = *end ? end + 1 : end;
    return value;
}

static int *next_list(char **at, int *count, int *bad) {
    int *list = calloc(strlen(*at) / 2 + 1, sizeof *list);
    for (*count = 0; list && **at && !*bad;)
        list[(*count)++] = (int)next_number(at, 10, bad);
    *bad |= !list;
    return list;
}

static int parse(char **argument) {
    static const struct { const char *key; int base; int *number; const char **text; } plain[] = {
        {"control=", 10, &control, NULL}, {"parent=", 10, &parent, NULL}, {"adopt=", 10, &adopted, NULL},
        {"gate=", 10, &gate, NULL},
        {"contain=", 10, &contain, NULL}, {"session=", 10, &plan.new_session, NULL}, {"umask=", 8, &plan.umask, NULL},
        {"terminal=", 10, &plan.terminal, NULL}, {"foreground=", 10, &plan.foreground, NULL},
        {"group=", 10, &plan.group, NULL}, {"hold=", 10, &holding, NULL},
        {"cgroup=", 0, NULL, &cgroup_base}, {"cwd=", 0, NULL, &plan.cwd}};
    int bad = 0;
    for (argument++; *argument && strcmp(*argument, "--"); argument++) {
        char *at = strchr(*argument, '=');
        size_t length = at ? (size_t)(++at - *argument) : 0, i = 0;
        while (i < sizeof plain / sizeof *plain && (strlen(plain[i].key) != length || strncmp(*argument, plain[i].key, length)))
            i++;
        if (i < sizeof plain / sizeof *plain && plain[i].text)
            *plain[i].text = at;
        else if (i < sizeof plain / sizeof *plain)
            *plain[i].number = (int)next_number(&at, plain[i].base, &bad);
        else if (!strncmp(*argument, "deadline=", 9))
            deadline = (int64_t)next_number(&at, 10, &bad);
        else if (!strncmp(*argument, "grace=", 6))
            grace = (int64_t)next_number(&at, 10, &bad);
        else if (!strncmp(*argument, "fds=", 4))
            passed = next_list(&at, &passed_count, &bad);
        else if (!strncmp(*argument, "ids=", 4)) {
            plan.change_ids = 1;
            plan.uid = (uid_t)next_number(&at, 10, &bad);
            plan.gid = (gid_t)next_number(&at, 10, &bad);
            plan.groups = (gid_t *)next_list(&at, &plan.group_count, &bad);
        } else if (!strncmp(*argument, "limits=", 7)) {
            struct child_limit *limits = calloc(strlen(at) / 6 + 1, sizeof *limits); /* "1:2:3;" */
            for (plan.limits = limits; limits && *at && !bad; plan.limit_count++) {
                struct child_limit *limit = &limits[plan.limit_count];
                limit->resource = (int)next_number(&at, 10, &bad);
                limit->soft = (rlim_t)next_number(&at, 10, &bad);
                limit->hard = (rlim_t)next_number(&at, 10, &bad);
            }
            bad |= !limits;
        } else
            return 1;
    }
    plan.new_group = !plan.new_session;
    if (*argument) { /* the second "--" ends the candidates as NULL does */
        plan.candidates = (const char *const *)++argument;
        while (*argument && strcmp(*argument, "--"))
            argument++;
        plan.argv = *argument ? argument + 1 : argument;
        *argument = NULL;
    }
    plan.envp = environ;
    return bad || parent <= 0 || (!holding && control < 0) ||
           (!adopted && !holding && (!plan.candidates || !plan.candidates[0] || !plan.argv[0]));
}

static int plan_descriptors(void) {
    int *sources = calloc((size_t)passed_count + 3, 2 * sizeof *sources);
    int *targets = sources + passed_count + 3;
    if (!sources)
        return -1;
    for (int fd = 0; fd < 3; fd++) {
        targets[fd] = fd;
        sources[fd] = fcntl(fd, F_GETFD) < 0 ? -1 : fd;
    }
    /* A number that is closed would go to the next file we open, so it gets something harmless.
     * The program gets it closed again: a source of -1. */
    for (int fd = 0; fd < 3; fd++)
        if (sources[fd] < 0)
            fcntl(control, F_DUPFD_CLOEXEC, 0);
    for (int i = 0; i < passed_count; i++) {
        sources[3 + i] = targets[3 + i] = passed[i];
        if (passed[i] == control || fcntl(passed[i], F_GETFD) < 0)
            return passed[i];
    }
    plan.sources = sources;
    plan.targets = targets;
    plan.moves = passed_count + 3;
    return -1;
}

int main(int argc, char **argv) {
    /* All signals: what is meant for the program must not end its keeper; CHLD is read as a file.
     * An ignored CHLD survives exec, and would have the kernel reap what we must wait for. */
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGCHLD, SIG_DFL);
    self = getpid();
    int bad = argc < 1 || parse(argv);
    fcntl(control, F_SETFD, FD_CLOEXEC);
    int unusable = bad ? -1 : plan_descriptors();

    /* The lifeline alone does not tell of the caller's death: children it forked may hold copies.
     *   1. The pidfd is opened, on whoever has the number now.
     *   2. Our parent is asked for: still that number. A parent changes only by dying, so it was the
     *      same in 1, and the pidfd is the caller's. Else the caller is dead, and nothing starts.
     * Where there are no pidfds, the parent is asked for at each wake-up, ten times a second at
     * least. PR_SET_PDEATHSIG would not do: it comes when the *thread* that forked us ends. */
    parent_fd = open_pidfd(parent);
    if (!bad && ((parent_fd < 0 && errno == ESRCH) || getppid() != parent))
        return 0;
    struct pollfd caller = {parent_fd, POLLIN, 0};
    while (!bad && holding) { /* with every signal blocked: what is typed is for the others in our group */
        if (getppid() != parent)
            return 0;
        poll(&caller, 1, parent_fd < 0 ? 100 : -1);
    }
    sigset_t deaths;
    sigemptyset(&deaths);
    sigaddset(&deaths, SIGCHLD);
    int signal_fd = signalfd(-1, &deaths, SFD_CLOEXEC | SFD_NONBLOCK);

    if (bad)
        fail((struct child_failure){EINVAL, STAGE_FORK, 0});
    else if (signal_fd < 0 || (contain && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0))
        fail((struct child_failure){errno, STAGE_FORK, 0});
    else if (unusable >= 0)
        fail((struct child_failure){EBADF, STAGE_DESCRIPTORS, unusable});
    else {
        if (contain && cgroup_base)
            make_cgroup();
        if (adopted && !own_child(adopted))
            fail((struct child_failure){errno, STAGE_FORK, 0});
        else if (adopted) {
            program = adopted;
            char number[16];
            int size = snprintf(number, sizeof number, "%d", (int)program);
            if (plan.cgroup >= 0 && write(plan.cgroup, number, (size_t)size) < 0)
                remove_cgroup();
            started();
            if (gate >= 0) {
                /* Now that the tree is held. Its reader may be dead, and PIPE is blocked. */
                ssize_t written = write(gate, "", 1);
                (void)written;
                close(gate);
            }
        } else
            start();
    }
    supervise(signal_fd);
    remove_cgroup();
    return result;
}
