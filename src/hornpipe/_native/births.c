#define _GNU_SOURCE
#include "births.h"

#include "alone.h"

#include <pthread.h>
#include <stdlib.h>

#define MOST 8

static struct {
    void (*what)(int);
    const int *mark;
} expected[MOST];
static int count;
static int alone = 1; /* at the last fork(3); a child cannot ask, since some libc begins anew there */

static void look_before_fork(void) {
    if (alone != ALONE)
        alone = ALONE;
}

void births_expect(void (*what)(int), const int *mark) {
    if (count == 0)
        pthread_atfork(look_before_fork, NULL, NULL);
    if (count == MOST)
        abort(); /* ours alone, and as many as there are modules */
    expected[count].what = what;
    expected[count].mark = mark;
    count++;
}

void births_begin(void) {
    int threads = !alone || !ALONE;
    for (int i = 0; i < count; i++)
        if (threads || (expected[i].mark && *expected[i].mark))
            expected[i].what(threads);
}
