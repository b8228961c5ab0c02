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
#include "arguments.h"
#include "cgroup.h"
#include "child.h"
#include "clock.h"
#include "family.h"
#include "pidfd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Keep in step with contain.py. */
enum report_kind { STARTED = 1, FAILED, STOPPED, EXITED, EXPIRED, SURVIVORS };
enum order_kind { SIGNAL = 1, TERMINATE, RESUME };
enum rung { RUNG_NONE, RUNG_SUBREAPER, RUNG_CGROUP };
struct report { int32_t kind, a, b, c; };
struct order { int32_t kind, a; int64_t b; };

enum { MILLISECOND = 1000000 };

/* As things stand. */
static pid_t self, program;               /* program: 0 before its start and after its end */
static int ended, result;                 /* whether only leftovers are to wait for; our exit status */
static int parent_fd = -1, start_fd = -1; /* the caller's pidfd; child_launch's report while it is out */
static int children, reaped_count;        /* whether there are any; how many there have been */
static int told_stopped, told_survivors;
static int64_t kill_at = -1, killing_since = -1, next_round, pause_between = 2 * MILLISECOND;

static int64_t later(int64_t base, int64_t delay) { /* -1: never */
    int64_t sum;
    return delay < 0 || __builtin_add_overflow(base, delay, &sum) ? -1 : sum;
}

static void begin_killing(void) {
    if (killing_since >= 0)
        return;
    killing_since = monotonic_ns();
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

/* ---- Signals and killing ------------------------------------------------------------------- */

static int shared_group(void) { return plan.group > 0 && getpgid(program) == plan.group; }

static void signal_group(int number) {
    /* Only while its leader is not reaped, or the program still in it: else the number could be another
     * group's by now. */
    if (program > 0 && kill(shared_group() ? -plan.group : -program, number) < 0)
        kill(program, number); /* adopted, and it leads no group (yet) */
    if (number == SIGTERM)
        signal_group(SIGCONT);
}

static void signal_all(int number) {
    if (number == SIGCONT)
        told_stopped = 0;
    family.count = 0;
    /* Twice: a fork in progress shows its child only to the second scan. Each gets one signal. */
    if (contain && (family_signal_new(number), family_signal_new(number), family.count))
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
    cgroup_kill();
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
    family.count = 0;
    for (int passes = 16; passes > 0 && (children = reap()) &&
                          (family_signal_new(SIGSTOP) > 0 || before != reaped_count); passes--)
        before = reaped_count;
    for (int i = 0; i < family.count; i++)
        signal_process(&family.at[i], SIGKILL);
    /* Children there are, none of them ends, and /proc is missing or does not show them: every number
     * there can be is tried. Half a second for one generation, but sure. */
    blind = family.count || !children || deaths != reaped_count ? 0 : blind + 1;
    for (pid_t pid = 2; blind >= 3 && pid <= 4194304; pid++)
        if (own_child(pid))
            kill(pid, SIGKILL);
}

static void killing_round(void) {
    if (contain)
        kill_tree();
    int64_t when = monotonic_ns(), report_at = killing_since + 50 * MILLISECOND;
    /* Who is runnable is dying and waits for a processor. Where nobody is seen, one there must be. */
    int held = !family.count && (children || cgroup_populated()), some[2] = {program, 0};
    for (int i = 0; i < family.count; i++)
        if (family.at[i].state != 'R' && held++ < 2)
            some[held - 1] = family.at[i].pid;
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
    tell(STARTED, program, !contain ? RUNG_NONE : cgroup_held() ? RUNG_CGROUP : RUNG_SUBREAPER, 0);
}

static void leave_cgroup(void) {
    cgroup_remove();
    plan.cgroup = -1;
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
        leave_cgroup(); /* not permitted to join: the next rung */
        start();
    } else
        fail(failure);
}

/* Whether there are children left. Everybody's: orphans are ours too. */
static int reap(void) {
    siginfo_t facts = {0};
    /* Stops are asked of the program alone, and not once we stop it ourselves. */
    if ((plan.foreground >= 0 || plan.group > 0) && program > 0 && killing_since < 0 && !told_stopped &&
        waitid(P_PID, (id_t)program, &facts, WSTOPPED | WNOHANG) == 0 && facts.si_pid) {
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
            tell(EXITED, raw_status(&facts), 0, 0);
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
            int64_t then = later(monotonic_ns(), order.b);
            if (then >= 0 && (kill_at < 0 || then < kill_at)) /* a second one can only hurry */
                kill_at = then;
            signal_all(SIGTERM);
        } else if (order.kind == RESUME) {
            told_stopped = 0;
            if (!shared_group()) /* whose stages all go on at once, by one CONT of its owner's */
                signal_group(SIGCONT);
        }
    }
}

static void supervise(int signal_fd) {
    int killed_at = -1; /* reaped_count as it was at the last kill_children */
    for (;;) {
        children = reap();
        if (ended && (!contain || (!children && !cgroup_populated())))
            return;
        int64_t when = monotonic_ns(), next = -1;
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
                               {start_fd, POLLIN, 0}, {children ? -1 : cgroup_events(), POLLPRI, 0}};
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
            plan.cgroup = cgroup_make(cgroup_base);
        if (adopted && !own_child(adopted))
            fail((struct child_failure){errno, STAGE_FORK, 0});
        else if (adopted) {
            program = adopted;
            char number[16];
            int size = snprintf(number, sizeof number, "%d", (int)program);
            if (plan.cgroup >= 0 && write(plan.cgroup, number, (size_t)size) < 0)
                leave_cgroup();
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
    cgroup_remove();
    return result;
}
