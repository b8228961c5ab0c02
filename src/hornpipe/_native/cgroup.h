/* A cgroup of our own: kills a whole tree at one stroke, however fast it forks. */
#ifndef HORNPIPE_CGROUP_H
#define HORNPIPE_CGROUP_H

#include <stdio.h>
#include <sys/types.h>

/* Makes it below this directory. The descriptor by which a process joins (cgroup.procs); -1: there is none. */
int cgroup_make(const char *base);
/* Whether there is one, and it kills. */
int cgroup_held(void);
/* KILL to all that are in it. */
void cgroup_kill(void);
/* Whether anybody is in it. */
int cgroup_populated(void);
/* POLLPRI tells of a change there since the last cgroup_populated(); -1: there is none. */
int cgroup_events(void);
/* Who is in it, a number a line, to be closed; NULL: there is none. */
FILE *cgroup_members(void);
int cgroup_has(pid_t pid);
/* Gives it up: nobody but zombies may be in it. */
void cgroup_remove(void);

#endif
