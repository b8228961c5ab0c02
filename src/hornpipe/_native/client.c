#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

int client_take_in(int listener, union any_name *name, socklen_t *size) {
    int fd;
    *size = sizeof *name;
    memset(name, 0, sizeof *name);
    do
        fd = accept4(listener, &name->any, size, SOCK_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd;
}

int client_is_lost(int error) {
    switch (error) { /* accept(2) tells what has happened to it */
    case ECONNABORTED: case EPROTO: case ENETDOWN: case ENOPROTOOPT: case EHOSTDOWN: case EHOSTUNREACH:
    case EOPNOTSUPP: case ENETUNREACH: case EPERM: case ETIMEDOUT:
#ifdef ENONET
    case ENONET:
#endif
        return 1;
    }
    return 0;
}

int client_lacks_room(int error) {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

uint64_t client_whom(int fd, const union any_name *name) {
    const unsigned char *bytes;
    size_t size;
    struct ucred who;
    socklen_t length = sizeof who;
    if (name->any.sa_family == AF_INET) {
        bytes = (const unsigned char *)&name->four.sin_addr, size = 4;
    } else if (name->any.sa_family == AF_INET6) {
        bytes = name->six.sin6_addr.s6_addr, size = 16;
        if (IN6_IS_ADDR_V4MAPPED(&name->six.sin6_addr))
            bytes += 12, size = 4;
    } else {
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0)
            return 1;
        bytes = (const unsigned char *)&who.uid, size = sizeof who.uid;
    }
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
    return hash ? hash : 1;
}

PyObject *client_name(const union any_name *name, socklen_t size) {
    char text[INET6_ADDRSTRLEN];
    if (name->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &name->four.sin_addr, text, sizeof text);
        return Py_BuildValue("(si)", text, (int)ntohs(name->four.sin_port));
    }
    if (name->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &name->six.sin6_addr, text, sizeof text);
        return Py_BuildValue("(siII)", text, (int)ntohs(name->six.sin6_port), (unsigned)ntohl(name->six.sin6_flowinfo),
                             (unsigned)name->six.sin6_scope_id);
    }
    if (size <= sizeof(sa_family_t))
        return PyBytes_FromStringAndSize("", 0);
    size -= sizeof(sa_family_t);
    /* An abstract name begins with a NUL; a path ends at one. */
    if (name->local.sun_path[0])
        size = (socklen_t)strnlen(name->local.sun_path, size);
    return PyBytes_FromStringAndSize(name->local.sun_path, (Py_ssize_t)size);
}
