/* The limit for servers: greeter fork|prefork PORT. A line to each client, and the end. */
#include "bench.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>

static const char line[] = "hello from the server\n";

static void greet(int fd)
{
    if (write(fd, line, sizeof line - 1) < 0)
        die("write");
}

int main(int argc, char *argv[])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (argc < 3)
        return 2;
    address.sin_port = htons((uint16_t)number(argv[2]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
        die("bind");
    if (!strcmp(argv[1], "prefork")) {
        for (int i = 0; i < 3; i++)
            if (fork() == 0)
                break;
        for (;;) {
            int fd = accept(listener, NULL, NULL);
            greet(fd);
            close(fd);
        }
    }
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fork() == 0) {
            close(listener);
            greet(fd);
            _exit(0);
        }
        close(fd);
    }
}
