/* What a forked child has to do first: one list for all modules, most of which have nothing to do. */
#ifndef HORNPIPE_BIRTHS_H
#define HORNPIPE_BIRTHS_H

/* From now on `what` is called in each forked child whose parent had other threads, which it is told, or in which `*mark`
 * is not 0 (NULL: only where there were threads). Nobody is called in vain: the first call into a module, and the first
 * word written to a page, cost a child about a microsecond each. */
void births_expect(void (*what)(int threads), const int *mark);

/* In a child, once the interpreter knows that it is one. */
void births_begin(void);

#endif
