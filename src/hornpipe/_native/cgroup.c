/* The supervisor's cgroup (version 2, cgroups(7)). No policy. */
#define _GNU_SOURCE
#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char name[32];
static int parent = -1, directory = -1, killing = -1, events = -1;

int cgroup_populated(void) {
    /* Reading also re-arms POLLPRI, which reports changes since the last read. */
    char text[128] = "";
    return events >= 0 && pread(events, text, sizeof text - 1, 0) > 0 && strstr(text, "populated 1");
}

static int remove_tree(int at, const char *folder, int depth) {
    /* A supervisor below ours, killed with the rest, has left a cgroup of its own in ours. */
    if (unlinkat(at, folder, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    int fd = depth > 0 ? openat(at, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    DIR *listed = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *entry; listed && (entry = readdir(listed));)
        if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            remove_tree(fd, entry->d_name, depth - 1);
    if (listed)
        closedir(listed);
    return unlinkat(at, folder, AT_REMOVEDIR);
}

void cgroup_remove(void) {
    /* EBUSY until the last member is quite gone; the kernel tells when. Half a second at most. */
    for (int tries = 20; *name && remove_tree(parent, name, 32) < 0 && tries > 0; tries--) {
        struct pollfd change = {events, POLLPRI, 0};
        poll(&change, 1, cgroup_populated() ? 25 : 5);
    }
    *name = 0;
    directory = killing = events = -1; /* left open: they are close-on-exec */
}

int cgroup_make(const char *base) {
    parent = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(name, sizeof name, "hornpipe-%d", (int)getpid());
    /* One with our name is what a KILLed predecessor left; one that cannot be removed is in use
     * (another pid namespace has our number too) and left alone. */
    if (mkdirat(parent, name, 0755) < 0 &&
        (errno != EEXIST || unlinkat(parent, name, AT_REMOVEDIR) < 0 || mkdirat(parent, name, 0755) < 0)) {
        *name = 0;
        return -1;
    }
    directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    events = openat(directory, "cgroup.events", O_RDONLY | O_CLOEXEC);
    killing = openat(directory, "cgroup.kill", O_WRONLY | O_CLOEXEC); /* Linux 5.14 */
    int members = openat(directory, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (events >= 0 && killing >= 0 && members >= 0)
        return members;
    cgroup_remove();
    return -1;
}

FILE *cgroup_members(void) {
    int fd = directory >= 0 ? openat(directory, "cgroup.procs", O_RDONLY | O_CLOEXEC) : -1;
    return fd >= 0 ? fdopen(fd, "r") : NULL;
}

int cgroup_has(pid_t pid) {
    FILE *members = cgroup_members();
    int other, found = 0;
    while (members && !found && fscanf(members, "%d", &other) == 1)
        found = other == pid;
    if (members)
        fclose(members);
    return found;
}

int cgroup_held(void) { return killing >= 0; }

int cgroup_events(void) { return events; }

void cgroup_kill(void) {
    if (killing >= 0 && write(killing, "1", 1) < 0)
        killing = -1;
}
