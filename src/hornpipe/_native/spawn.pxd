from libc.stdint cimport uint64_t
from posix.types cimport gid_t, pid_t, uid_t

cdef extern from "child.h" nogil:
    struct child_failure:
        int error
        int stage
        int which
    struct child_limit:
        int resource
        unsigned long soft
        unsigned long hard
    struct child_plan:
        const int *sources
        const int *targets
        int moves
        uint64_t stay_ignored
        uint64_t may_be_ignored
        int new_session
        int new_group
        pid_t group
        int terminal
        int foreground
        int umask
        int cgroup
        int death_signal
        int change_ids
        uid_t uid
        gid_t gid
        const gid_t *groups
        int group_count
        const child_limit *limits
        int limit_count
        const char *cwd
        const char *const *candidates
        char *const *argv
        char *const *envp
    int child_prepare(const child_plan *, int *, child_failure *)
    void child_exec(const child_plan *, child_failure *)
    void child_reset_signals(uint64_t, uint64_t)
    uint64_t child_ignored_signals()
    int child_stays_when_dead()
    pid_t child_launch(const child_plan *, int, int, int *, int *, child_failure *)

cdef class _Strings:
    cdef char **items
    cdef int copy_environ(self) except -1

cdef class Plan:
    cdef child_plan plan
    cdef int *numbers
    cdef gid_t *groups
    cdef child_limit *limits
    cdef object kept

cdef _Strings strings(object values)
cdef uint64_t may_be_ignored() except? 0
cdef bint wants_pidfd() noexcept
cdef int add_to(set ours, child) except -1
