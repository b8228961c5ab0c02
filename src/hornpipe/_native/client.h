/* A client that comes in: accept4(2), and who that is. */
#ifndef HORNPIPE_CLIENT_H
#define HORNPIPE_CLIENT_H

#include <Python.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

union any_name {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    struct sockaddr_un local;
};

/* Its descriptor, or -1 with errno. */
int client_take_in(int listener, union any_name *name, socklen_t *size);
/* Of that errno: whether it says that the connection which waited is gone, or that the system lacks something. */
int client_is_lost(int error);
int client_lacks_room(int error);
/* Whom a limit for each address counts: a host, or at a Unix name a user. Never 0. */
uint64_t client_whom(int fd, const union any_name *name);
/* The name as the socket module has it, but that of a Unix socket always as bytes. */
PyObject *client_name(const union any_name *name, socklen_t size);
#endif
