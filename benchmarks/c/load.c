/* Clients, many at once: load greet|echo COUNT CLIENTS SERVER ARGUMENT...
 *
 * It starts the server, in whose arguments PORT becomes a free port, waits until that answers, and then has COUNT
 * clients greeted (each connects, reads to the end, and has to have got a line), or sends COUNT messages of 64 bytes
 * over CLIENTS kept connections, each waiting for its echo. One thread, one epoll: cheaper than any server. */
#include "bench.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define WARM 64
#define MESSAGE 64
#define MOST 4096

static struct sockaddr_in address;
static pid_t server;
static int poller;
static size_t got[MOST];

static void end_server(void)
{
    if (server > 0)
        kill(-server, SIGKILL);
}

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "too little came");
    end_server();
    exit(1);
}

static int free_port(void)
{
    int probe = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    socklen_t size = sizeof address;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(probe, (struct sockaddr *)&address, sizeof address) || getsockname(probe, (struct sockaddr *)&address, &size))
        die("bind");
    close(probe);
    return ntohs(address.sin_port);
}

static void start_server(char *argv[])
{
    char port[16];
    snprintf(port, sizeof port, "%d", free_port());
    for (int i = 0; argv[i]; i++) {
        char *at = strstr(argv[i], "PORT");
        if (at) {
            char *made = malloc(strlen(argv[i]) + sizeof port);
            sprintf(made, "%.*s%s%s", (int)(at - argv[i]), argv[i], port, at + 4);
            argv[i] = made;
        }
    }
    server = fork();
    if (server == 0) {
        setpgid(0, 0);
        execvp(argv[0], argv);
        _exit(127);
    }
    setpgid(server, server);
}

static void await_server(void)
{
    for (int i = 0; i < 2000; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), status;
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
            char byte;
            /* Its first answer: it is at work. An echo server waits for us. */
            if (write(fd, "\n", 1) == 1 && read(fd, &byte, 1) == 1) {
                close(fd);
                return;
            }
        }
        close(fd);
        if (waitpid(server, &status, WNOHANG) == server)
            exit(WIFEXITED(status) && WEXITSTATUS(status) == 127 ? 69 : WIFEXITED(status) ? WEXITSTATUS(status) : 1);
        usleep(5000);
    }
    errno = ETIMEDOUT;
    fail("the server does not answer");
}

static void open_client(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct epoll_event event = {.events = EPOLLIN};
    if (fd < 0 || fd >= MOST)
        fail("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail("connect");
    event.data.fd = fd;
    got[fd] = 0;
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void greet(size_t count, size_t clients)
{
    struct epoll_event events[64];
    char buffer[4096];
    size_t begun = 0, ended = 0;
    while (begun < clients && begun < count)
        open_client(), begun++;
    while (ended < count) {
        int ready = epoll_wait(poller, events, 64, 20000);
        if (ready <= 0)
            fail("nobody is greeted");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            ssize_t size = read(fd, buffer, sizeof buffer);
            if (size < 0 && errno == EAGAIN)
                continue;
            if (size < 0)
                fail("a client");
            if (size > 0) {
                got[fd] += (size_t)size;
                continue;
            }
            errno = 0;
            if (!got[fd])
                fail("a client");
            close(fd);
            ended++;
            if (begun < count)
                open_client(), begun++;
        }
    }
}

static void echo(size_t count, size_t clients)
{
    struct epoll_event events[64];
    char buffer[MESSAGE];
    int fds[MOST], on = 1;
    size_t sent = 0, ended = 0;
    memset(buffer, 'x', MESSAGE - 1);
    buffer[MESSAGE - 1] = '\n';
    for (size_t i = 0; i < clients; i++) {
        struct epoll_event event = {.events = EPOLLIN};
        event.data.fd = fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fds[i], (struct sockaddr *)&address, sizeof address))
            fail("connect");
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        /* One round trip each before the clock starts: all of them are served. */
        if (write(fds[i], buffer, MESSAGE) != MESSAGE || recv(fds[i], buffer, MESSAGE, MSG_WAITALL) != MESSAGE)
            fail("a first message");
        epoll_ctl(poller, EPOLL_CTL_ADD, fds[i], &event);
    }
    double start = now();
    for (; sent < clients && sent < count; sent++)
        if (write(fds[sent], buffer, MESSAGE) != MESSAGE)
            fail("write");
    while (ended < count) {
        int ready = epoll_wait(poller, events, 64, 20000);
        if (ready <= 0)
            fail("nothing comes back");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (recv(fd, buffer, MESSAGE, MSG_WAITALL) != MESSAGE)
                fail("read");
            ended++;
            if (sent < count && write(fd, buffer, MESSAGE) == MESSAGE)
                sent++;
        }
    }
    printf("seconds=%.9f grown=0\n", now() - start);
}

int main(int argc, char *argv[])
{
    if (argc < 5)
        return 2;
    size_t count = number(argv[2]), clients = number(argv[3]);
    atexit(end_server);
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(EPOLL_CLOEXEC);
    start_server(argv + 4);
    await_server();
    if (!strcmp(argv[1], "echo")) {
        echo(count, clients);
        return 0;
    }
    greet(WARM, clients);
    double start = now();
    greet(count, clients);
    printf("seconds=%.9f grown=0\n", now() - start);
    return 0;
}
