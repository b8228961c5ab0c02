/* The supervisor's command line, which supervisor.c explains. No policy. */
#define _GNU_SOURCE
#include "arguments.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int control = -1, contain = 1, gate = -1, holding;
pid_t parent, adopted;
int64_t deadline = -1, grace;
const char *cgroup_base;
int *passed, passed_count;
/* Whatever is ignored here was left so by the caller, for the program's sake. */
struct child_plan plan = {.stay_ignored = ~0ULL, .terminal = -1, .foreground = -1, .umask = -1, .cgroup = -1,
                                 .death_signal = SIGKILL};

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

int parse(char **argument) {
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
        while (i < sizeof plain / sizeof *plain &&
               (strlen(plain[i].key) != length || strncmp(*argument, plain[i].key, length)))
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

int plan_descriptors(void) {
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
