/* ALONE: whether there is and was no thread but this one. */
#ifndef HORNPIPE_ALONE_H
#define HORNPIPE_ALONE_H

#include <unistd.h> /* any: it says which libc this is */

#if defined(__GLIBC__) && defined(__has_include)
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define ALONE __libc_single_threaded
#endif
#endif
#ifndef ALONE
#define ALONE 0
#endif

#endif
