/* What the programs with sockets share. An address is a port of 127.0.0.1, or a path. */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static inline void at_once(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline void send_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0)
            return;
        data += n;
        size -= (size_t)n;
    }
}

static inline struct sockaddr_in loopback(int port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return name;
}

static inline struct sockaddr_un path_name(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    return name;
}

/* Listens, and says where. It goes when its parent goes. */
static inline int listen_at(const char *where)
{
    int fd, tcp = !strcmp(where, "tcp");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (tcp) {
        struct sockaddr_in name = loopback(0);
        socklen_t length = sizeof name;
        if (bind(fd, (struct sockaddr *)&name, sizeof name) || getsockname(fd, (struct sockaddr *)&name, &length))
            die("bind");
        printf("%d\n", ntohs(name.sin_port));
    } else {
        struct sockaddr_un name = path_name(where);
        unlink(where);
        if (bind(fd, (struct sockaddr *)&name, sizeof name))
            die("bind");
        printf("%s\n", where);
    }
    if (listen(fd, 1024))
        die("listen");
    fflush(stdout);
    return fd;
}

static inline int connect_to(const char *where)
{
    int fd, result;
    if (where[0] == '/') {
        struct sockaddr_un name = path_name(where);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        result = connect(fd, (struct sockaddr *)&name, sizeof name);
    } else {
        struct sockaddr_in name = loopback((int)number(where));
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        result = connect(fd, (struct sockaddr *)&name, sizeof name);
        at_once(fd);
    }
    if (result)
        die("connect");
    return fd;
}

#endif
