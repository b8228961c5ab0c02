/* datagrams HOW SIZE BURST: in bursts over loopback, SIZE datagrams of 64 bytes: `receive` or `receive-mmsg` times the
 * receiving, `send` or `send-gso` the sending. */
#include "bench.h"

#include "sockets.h"

#include <netinet/udp.h>

enum { LENGTH = 64, MOST = 128 };

static void receive_one_by_one(int fd, size_t burst)
{
    char data[2048];
    struct sockaddr_in from;
    for (size_t i = 0; i < burst; i++) {
        socklen_t length = sizeof from;
        if (recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&from, &length) != LENGTH)
            die("recvfrom");
    }
}

static void receive_at_once(int fd, size_t burst)
{
    static char data[MOST][2048];
    static struct mmsghdr heads[MOST];
    static struct iovec pieces[MOST];
    static struct sockaddr_in names[MOST];
    for (size_t i = 0; i < burst; i++) {
        pieces[i] = (struct iovec){data[i], sizeof data[i]};
        heads[i].msg_hdr = (struct msghdr){&names[i], sizeof names[i], &pieces[i], 1, NULL, 0, 0};
    }
    for (size_t got = 0; got < burst;) {
        int n = recvmmsg(fd, heads + got, (unsigned)(burst - got), 0, NULL);
        if (n < 0)
            die("recvmmsg");
        got += (size_t)n;
    }
}

static void send_one_by_one(int fd, const struct sockaddr_in *to, const char *data, size_t burst)
{
    for (size_t i = 0; i < burst; i++)
        if (sendto(fd, data, LENGTH, 0, (const struct sockaddr *)to, sizeof *to) != LENGTH)
            die("sendto");
}

static void send_in_pieces(int fd, const struct sockaddr_in *to, const char *data, size_t burst)
{
    for (size_t part; burst; burst -= part) {
        part = burst < 64 ? burst : 64;
        if (sendto(fd, data, LENGTH * part, 0, (const struct sockaddr *)to, sizeof *to) != (ssize_t)(LENGTH * part))
            die("sendto");
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    static char data[LENGTH * MOST];
    size_t size = number(argv[2]), burst = number(argv[3]), at_start = status_line("VmRSS:");
    int receiver = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0), pieces = LENGTH;
    struct sockaddr_in to = loopback(0);
    socklen_t length = sizeof to;
    if (burst > MOST || bind(receiver, (struct sockaddr *)&to, sizeof to))
        die("bind");
    getsockname(receiver, (struct sockaddr *)&to, &length);
    int sends = !strncmp(argv[1], "send", 4), fast = strchr(argv[1], '-') != NULL;
    if (sends && fast && setsockopt(sender, SOL_UDP, UDP_SEGMENT, &pieces, sizeof pieces))
        die("UDP_SEGMENT");
    double spent = 0;
    for (size_t done = 0; done < size; done += burst) {
        double start = now();
        (sends && fast ? send_in_pieces : send_one_by_one)(sender, &to, data, burst);
        double sent = now();
        (fast ? receive_at_once : receive_one_by_one)(receiver, burst);
        spent += sends ? sent - start : now() - sent;
    }
    report(spent, at_start);
    return 0;
}
