/* serve WHAT WHERE SIZE: listens (WHERE is tcp, or the path of a Unix name), says where, and serves one client after
 * another: `greet` says hello and closes, `echo` sends back what comes, `lines` sends SIZE bytes of 64-byte lines, `sink`
 * reads until the end and says how much that was. */
#include "bench.h"

#include "sockets.h"

static void serve(const char *what, int client, size_t size)
{
    static char buffer[256 << 10];
    ssize_t n;
    if (!strcmp(what, "greet"))
        send_all(client, "hello, client\n", 14);
    else if (!strcmp(what, "echo"))
        while ((n = read(client, buffer, sizeof buffer)) > 0)
            send_all(client, buffer, (size_t)n);
    else if (!strcmp(what, "sink")) {
        size = 0;
        while ((n = read(client, buffer, sizeof buffer)) > 0)
            size += (size_t)n;
        printf("%zu\n", size);
        fflush(stdout);
    } else {
        for (size_t i = 0; i < sizeof buffer; i++)
            buffer[i] = i % 64 == 63 ? '\n' : (char)('0' + i % 64);
        for (size_t left = size; left;) {
            size_t part = left < sizeof buffer ? left : sizeof buffer;
            send_all(client, buffer, part);
            left -= part;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_at(argv[2]);
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            die("accept");
        at_once(client);
        serve(argv[1], client, number(argv[3]));
        close(client);
    }
}
