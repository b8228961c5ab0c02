/* sysv COUNT sem|undo|msg|chat|shm: COUNT times the thing that one does with a System V object.
 * sysv SIZE copy: SIZE bytes into a segment, once they are all there. */
#include "bench.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define PIECE 64

struct message {
    long type;
    char text[PIECE];
};

static double semaphores(size_t count, short flags)
{
    int id = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf take = {0, -1, flags}, give = {0, 1, flags};
    if (id < 0 || semctl(id, 0, SETVAL, 1))
        die("semget");
    double start = now();
    for (size_t i = 0; i < count; i++)
        if (semop(id, &take, 1) || semop(id, &give, 1))
            die("semop");
    double seconds = now() - start;
    semctl(id, 0, IPC_RMID);
    return seconds;
}

static int new_queue(void)
{
    int id = msgget(IPC_PRIVATE, 0600);
    if (id < 0)
        die("msgget");
    return id;
}

static void send(int id, struct message *message)
{
    if (msgsnd(id, message, PIECE, 0))
        die("msgsnd");
}

static void receive(int id, struct message *message)
{
    if (msgrcv(id, message, PIECE, 0, 0) != PIECE)
        die("msgrcv");
}

static double to_self(size_t count)
{
    int id = new_queue();
    struct message sent = {1, "x"}, got;
    double start = now();
    for (size_t i = 0; i < count; i++) {
        send(id, &sent);
        receive(id, &got);
    }
    double seconds = now() - start;
    msgctl(id, IPC_RMID, NULL);
    return seconds;
}

static double chat(size_t count)
{
    int there = new_queue(), back = new_queue();
    struct message message = {1, "x"};
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        for (;;) {
            /* It ends when the queue does. */
            if (msgrcv(there, &message, PIECE, 0, 0) != PIECE)
                _exit(0);
            send(back, &message);
        }
    double start = now();
    for (size_t i = 0; i < count; i++) {
        send(there, &message);
        receive(back, &message);
    }
    double seconds = now() - start;
    msgctl(there, IPC_RMID, NULL);
    must_succeed(child);
    msgctl(back, IPC_RMID, NULL);
    return seconds;
}

static char *segment(size_t size)
{
    int id = shmget(IPC_PRIVATE, size, 0600);
    char *memory = id < 0 ? (char *)-1 : shmat(id, NULL, 0);
    if (memory == (char *)-1)
        die("shmget");
    shmctl(id, IPC_RMID, NULL);
    return memory;
}

static double small(size_t count)
{
    char *memory = segment(4096), data[PIECE] = "x", back[PIECE];
    double start = now();
    for (size_t i = 0; i < count; i++) {
        memcpy(memory, data, PIECE);
        /* Somebody else may write it meanwhile: it has to be read again. */
        __asm__ volatile("" : : : "memory");
        memcpy(back, memory, PIECE);
        __asm__ volatile("" : : "r"(back) : "memory");
    }
    return now() - start;
}

static double copy(size_t size)
{
    char *memory = segment(size), *data = huge(size);
    memset(data, 'x', size);
    memset(memory, 'y', size);
    double best = 1e9;
    for (int i = 0; i < 10; i++) {
        double start = now();
        memcpy(memory, data, size);
        __asm__ volatile("" : : : "memory");
        double seconds = now() - start;
        best = seconds < best ? seconds : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t count = number(argv[1]), at_start = status_line("VmRSS:");
    double seconds;
    if (!strcmp(argv[2], "sem"))
        seconds = semaphores(count, 0);
    else if (!strcmp(argv[2], "undo"))
        seconds = semaphores(count, SEM_UNDO);
    else if (!strcmp(argv[2], "msg"))
        seconds = to_self(count);
    else if (!strcmp(argv[2], "chat"))
        seconds = chat(count);
    else if (!strcmp(argv[2], "shm"))
        seconds = small(count);
    else if (!strcmp(argv[2], "copy"))
        seconds = copy(count);
    else
        return 2;
    report(seconds, at_start);
    return 0;
}
