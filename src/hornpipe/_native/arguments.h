/* What the supervisor was told. */
#ifndef HORNPIPE_ARGUMENTS_H
#define HORNPIPE_ARGUMENTS_H

#include "child.h"

#include <stdint.h>
#include <sys/types.h>

extern int control, contain, gate, holding;
extern pid_t parent, adopted;
extern int64_t deadline, grace;
extern const char *cgroup_base;
extern int *passed, passed_count;
extern struct child_plan plan;

/* Whether it makes no sense. */
int parse(char **argument);
/* Which descriptors the program gets. One of those that are to be passed on and is not open; -1: they all are. */
int plan_descriptors(void);

#endif
