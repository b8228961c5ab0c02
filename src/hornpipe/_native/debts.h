/* What the kernel is to give back to the semaphores of a set when this process ends (semadj: SEM_UNDO, semop(2)).
 * It keeps that for the process and tells nobody; so the account is one for each set, whatever handles there are. */
#ifndef HORNPIPE_DEBTS_H
#define HORNPIPE_DEBTS_H

#include <stddef.h>

struct debts {
    struct debts *next;
    int id, handles, listed;
    size_t count;
    int owed[]; /* what the kernel would add to each */
};

/* The account of that set, for one handle more; a new one if the set is `fresh`. NULL: no memory. */
struct debts *open_debts(int id, size_t count, int fresh);
/* One handle less. What is owed stays on the list. */
void close_debts(struct debts *debts);
/* The set was removed: ids are used again, with time. */
void forget_debts(int id);
/* In a forked child, which inherits no undo and so owes nothing (semop(2)). */
void debts_in_child(int threads);
/* Whether there has been an account. */
extern int debts_opened;
#endif
