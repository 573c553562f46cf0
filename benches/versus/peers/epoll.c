/* The baseline: bare epoll, one read and one write per readiness, no log.
 *
 *     epoll PORT
 *
 * It does the job of the clients' port for IAMAT and invalid lines and nothing else: no flood,
 * no WHATSAT, no limits on how many connect. Whatever a runtime adds, it adds to this.
 * Simplification that a server for strangers could not afford: a client that does not read its
 * answers is disconnected.
 */
#define _GNU_SOURCE
#include "herd.h"
#include <sys/epoll.h>

enum { EVENTS = 1024 };

typedef struct { int fd; int begun; char rest[LINE_BYTES]; } connection;

/* One read, the lines that are there, one write. 0 where the connection is over. */
static int serve(connection *c, nanos now) {
    memcpy(input, c->rest, c->begun);
    ssize_t count = read(c->fd, input + c->begun, READ_BYTES);
    if (count <= 0) return count < 0 && (errno == EAGAIN || errno == EINTR);
    char *at = input, *end = input + c->begun + count, *out = answers(&at, end, now);
    c->begun = end - at;
    if (c->begun > LINE_BYTES) return 0;
    memcpy(c->rest, at, c->begun);
    return out == output || write(c->fd, output, out - output) == out - output;
}

static void admit(int listener, int epoll) {
    int fd, on = 1;
    while ((fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
        connection *c = malloc(sizeof *c);
        if (!c) { close(fd); return; }
        c->fd = fd, c->begun = 0;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event wish = { .events = EPOLLIN, .data.ptr = c };
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wish);
    }
}

int main(int argc, char **argv) {
    if (argc < 2) return fprintf(stderr, "epoll PORT\n"), 2;
    int listener = listen_on(argv[1], SOCK_STREAM | SOCK_NONBLOCK);
    if (listener < 0) return perror("epoll"), 1;
    int epoll = epoll_create1(0);
    struct epoll_event wish = { .events = EPOLLIN, .data.ptr = 0 }, events[EVENTS];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &wish);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        nanos now = now_in_nanos();
        for (int i = 0; i < count; i++) {
            connection *c = events[i].data.ptr;
            if (!c) admit(listener, epoll);
            else if (!serve(c, now)) { close(c->fd); free(c); }
        }
    }
}
