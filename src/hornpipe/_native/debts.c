#include "debts.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* By the lower bits of the id, which are the places in the kernel's own table. */
#define ROWS 256

static struct debts *rows[ROWS];
int debts_opened;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct debts **find(int id) {
    struct debts **at = &rows[(unsigned)id % ROWS];
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

/* Its handles keep it, and what they do is counted where nobody looks. */
static void take_off(struct debts **at) {
    struct debts *debts = *at;
    *at = debts->next;
    debts->listed = 0;
    memset(debts->owed, 0, debts->count * sizeof debts->owed[0]);
    if (!debts->handles)
        free(debts);
}

struct debts *open_debts(int id, size_t count, int fresh) {
    pthread_mutex_lock(&lock);
    struct debts **at = find(id), *debts = *at;
    if (debts && (fresh || debts->count != count)) { /* of a set that had this id before */
        take_off(at);
        debts = NULL;
    }
    if (!debts && (debts = calloc(1, sizeof *debts + count * sizeof debts->owed[0]))) {
        debts->id = id;
        debts->count = count;
        debts->listed = 1;
        at = &rows[(unsigned)id % ROWS];
        debts->next = *at;
        *at = debts;
    }
    if (debts)
        debts->handles++;
    debts_opened = 1;
    pthread_mutex_unlock(&lock);
    return debts;
}

void close_debts(struct debts *debts) {
    size_t paid = 0;
    pthread_mutex_lock(&lock);
    debts->handles--;
    while (paid < debts->count && !debts->owed[paid])
        paid++;
    if (!debts->handles && !debts->listed)
        free(debts);
    else if (!debts->handles && paid == debts->count)
        take_off(find(debts->id));
    pthread_mutex_unlock(&lock);
}

void forget_debts(int id) {
    pthread_mutex_lock(&lock);
    struct debts **at = find(id);
    if (*at)
        take_off(at);
    pthread_mutex_unlock(&lock);
}

void debts_in_child(int threads) {
    if (threads)
        pthread_mutex_init(&lock, NULL); /* a thread that is not here may hold it */
    for (size_t row = 0; row < ROWS; row++)
        for (struct debts *debts = rows[row]; debts; debts = debts->next)
            memset(debts->owed, 0, debts->count * sizeof debts->owed[0]);
}
