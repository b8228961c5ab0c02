/* What every program in this folder shares: a clock, its own peak of memory, big pipes, and dying with a reason. */
#ifndef BENCH_H
#define BENCH_H

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define BIG_PIPE (1 << 20)

static inline void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline size_t number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || end == text || *end) {
        fprintf(stderr, "not a number: %s\n", text);
        exit(2);
    }
    return (size_t)n;
}

/* A line of /proc/self/status, in bytes. VmHWM belongs to this program alone; ru_maxrss would remember its parent. */
static inline size_t status_line(const char *key)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    size_t kib = 0;
    if (!status)
        die("/proc/self/status");
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, key, strlen(key)))
            kib = strtoull(line + strlen(key), NULL, 10);
    fclose(status);
    return kib << 10;
}

/* The line that the contest reads. `at_start` is what memory was in use before the work. */
static inline void report(double seconds, size_t at_start)
{
    printf("seconds=%.9f grown=%zu\n", seconds, status_line("VmHWM:") - at_start);
}

static inline void open_pipe(int ends[2], int size)
{
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    if (size && fcntl(ends[0], F_SETPIPE_SZ, size) < 0)
        die("F_SETPIPE_SZ");
}

/* A child with the given stdin and stdout (-1: ours). Programs are named by path, except where PATH is asked for. */
static inline pid_t spawn(char *const argv[], int in, int out)
{
    pid_t pid = vfork();
    if (pid < 0)
        die("vfork");
    if (pid == 0) {
        if (in >= 0 && dup2(in, 0) < 0)
            _exit(126);
        if (out >= 0 && dup2(out, 1) < 0)
            _exit(126);
        execvp(argv[0], argv);
        _exit(127);
    }
    return pid;
}

static inline void must_succeed(pid_t pid)
{
    int status;
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    if (status) {
        fprintf(stderr, "a child failed with wait status %d\n", status);
        exit(1);
    }
}

/* Memory on huge pages: faulting in 512 MiB by pages of 4 KiB alone takes 200 ms. */
static inline char *huge(size_t size)
{
    size_t rounded = (size + 2 * MIB - 1) & ~(2 * MIB - 1);
    char *memory = mmap(NULL, rounded + 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    memory = (char *)(((size_t)memory + 2 * MIB - 1) & ~(2 * MIB - 1));
    (void)madvise(memory, rounded, MADV_HUGEPAGE);
    return memory;
}

#endif
