/* Who descends from the supervisor, and signals that hit only them. */
#ifndef HORNPIPE_FAMILY_H
#define HORNPIPE_FAMILY_H

#include <sys/types.h>

enum kinship { CHILD, DESCENDANT, MEMBER };

struct process {
    pid_t pid, parent;
    unsigned long long start; /* with the pid, the identity of a process */
    char state;
    enum kinship kinship;
    int pass; /* of the last scan that saw it */
};
struct processes { struct process *at; int count, room; };

/* Those that have been found since its count was last 0. */
extern struct processes family;

/* Signals all that are not in the family yet, and adds them. How many that were. */
int family_signal_new(int number);
void signal_process(const struct process *target, int number);
/* Whether it is a child of ours, by the kernel's word: no /proc needed, and nothing is reaped. */
int own_child(pid_t pid);

#endif
