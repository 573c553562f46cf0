/* The other lower bound: io_uring, which does what it was asked once instead of telling what is ready. No log.
 *
 *     uring PORT       serves
 *     uring --check    says whether the kernel has what this needs
 *
 * The kernel accepts and receives by itself (multishot), into buffers that it was given in advance. So a turn is one
 * system call for any number of connections: it hands over the answers of the turn before, and waits for what came.
 * Simplification that a server for strangers could not afford: all connections share the buffers, and a client that does
 * not read its answers is disconnected once they are MOST_UNSENT bytes.
 */
#define _GNU_SOURCE
#include "herd.h"
#include <liburing.h>

enum { ENTRIES = 4096, COMPLETIONS = 65536, BUFFERS = 2048, BUFFER_BYTES = 4096, MOST_UNSENT = 1 << 20 };
enum { ACCEPT, RECEIVE, SEND, KIND = 3 }; /* in the lowest bits of the address of a connection */

typedef struct { char *at; size_t used, sent; } bytes_out;

/* Exists until it is over and none of its requests is under way. */
typedef struct {
    int fd, begun, under_way, is_over;
    bytes_out sending, waiting; /* what a send has, and what the next one will have */
    char rest[LINE_BYTES];
} connection;

static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static char received[BUFFERS][BUFFER_BYTES];
static int given_back; /* buffers of this turn */

/* ---- what the kernel is asked --------------------------------------------------------------- */

static struct io_uring_sqe *request(void) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    if (sqe) return sqe;
    io_uring_submit(&ring); /* There is no room: hand over what there is. */
    return io_uring_get_sqe(&ring);
}

static void accept_all(int listener) {
    struct io_uring_sqe *sqe = request();
    io_uring_prep_multishot_accept(sqe, listener, 0, 0, 0);
    io_uring_sqe_set_data64(sqe, ACCEPT);
}

static void receive_all(connection *c) {
    struct io_uring_sqe *sqe = request();
    io_uring_prep_recv_multishot(sqe, c->fd, 0, 0, 0);
    io_uring_sqe_set_data64(sqe, (uintptr_t)c | RECEIVE);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    c->under_way++;
}

/* One send at a time, or answers could overtake each other. */
static void send_more(connection *c) {
    if (c->sending.sent == c->sending.used) {
        free(c->sending.at);
        c->sending = c->waiting;
        c->waiting = (bytes_out){ 0 };
        if (!c->sending.used) return;
    }
    struct io_uring_sqe *sqe = request();
    io_uring_prep_send(sqe, c->fd, c->sending.at + c->sending.sent, c->sending.used - c->sending.sent, MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, (uintptr_t)c | SEND);
    c->under_way++;
}

/* ---- what it did ---------------------------------------------------------------------------- */

static void end(connection *c) {
    if (!c->is_over) shutdown(c->fd, SHUT_RDWR); /* What is under way comes back. */
    c->is_over = 1;
}

static void accepted(int fd) {
    int on = 1;
    connection *c = malloc(sizeof *c);
    if (!c) { close(fd); return; }
    memset(c, 0, offsetof(connection, rest));
    c->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    receive_all(c);
}

/* Appends the answers to what waits. 0 where the connection is over. */
static int answer_to(connection *c, char *came, int count, nanos now) {
    char *at = came;
    if (c->begun) { /* The line has begun in another buffer. */
        memcpy(input, c->rest, c->begun);
        memcpy(input + c->begun, came, count);
        at = input, count += c->begun;
    }
    char *stop = at + count, *out = answers(&at, stop, now);
    if (stop - at > LINE_BYTES) return 0;
    c->begun = stop - at;
    memcpy(c->rest, at, c->begun);
    size_t more = out - output;
    if (!more) return 1;
    if (c->waiting.used + more > MOST_UNSENT) return 0;
    char *grown = realloc(c->waiting.at, c->waiting.used + more);
    if (!grown) return 0;
    memcpy(grown + c->waiting.used, output, more);
    c->waiting.at = grown, c->waiting.used += more;
    if (!c->sending.used) send_more(c);
    return 1;
}

static void was_received(connection *c, struct io_uring_cqe *cqe, nanos now) {
    if (cqe->flags & IORING_CQE_F_BUFFER) {
        unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        if (cqe->res > 0 && !c->is_over && !answer_to(c, received[id], cqe->res, now)) end(c);
        io_uring_buf_ring_add(buffers, received[id], BUFFER_BYTES, id, io_uring_buf_ring_mask(BUFFERS), given_back++);
    }
    if (cqe->flags & IORING_CQE_F_MORE) return;
    c->under_way--;
    if (c->is_over) return;
    if (cqe->res > 0 || cqe->res == -ENOBUFS) receive_all(c);
    else if (cqe->res == 0) c->is_over = 1; /* It still gets its answers. */
    else end(c);
}

static void was_sent(connection *c, int count) {
    c->under_way--;
    if (count > 0) {
        c->sending.sent += count;
        send_more(c);
        return;
    }
    c->sending.sent = c->sending.used, c->waiting.used = 0;
    end(c);
}

static void completed(struct io_uring_cqe *cqe, int listener, nanos now) {
    connection *c = (connection *)(uintptr_t)(cqe->user_data & ~(uint64_t)KIND);
    switch (cqe->user_data & KIND) {
    case ACCEPT:
        if (cqe->res >= 0) accepted(cqe->res);
        if (!(cqe->flags & IORING_CQE_F_MORE)) accept_all(listener);
        return;
    case RECEIVE: was_received(c, cqe, now); break;
    case SEND: was_sent(c, cqe->res); break;
    }
    if (c->is_over && !c->under_way) {
        close(c->fd);
        free(c->sending.at), free(c->waiting.at), free(c);
    }
}

/* ---- the ring ------------------------------------------------------------------------------- */

/* Null, or what the kernel does not have. */
static const char *make_ring(void) {
    struct io_uring_params wish = { .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
                                    .cq_entries = COMPLETIONS };
    int error = io_uring_queue_init_params(ENTRIES, &ring, &wish);
    if (error == -EINVAL) { /* A kernel older than 6.1: completions may interrupt. */
        wish = (struct io_uring_params){ .flags = IORING_SETUP_CQSIZE, .cq_entries = COMPLETIONS };
        error = io_uring_queue_init_params(ENTRIES, &ring, &wish);
    }
    if (error) return errno = -error, "the kernel gives no io_uring";
    io_uring_register_ring_fd(&ring); /* Saves a look-up for each system call; older kernels do without. */
    struct io_uring_buf_reg group = { .ring_entries = BUFFERS };
    if (posix_memalign((void **)&buffers, 4096, BUFFERS * sizeof(struct io_uring_buf)))
        return errno = ENOMEM, "no memory";
    group.ring_addr = (uintptr_t)buffers;
    error = io_uring_register_buf_ring(&ring, &group, 0);
    if (error) return errno = -error, "the kernel takes no ring of buffers";
    io_uring_buf_ring_init(buffers);
    for (int id = 0; id < BUFFERS; id++)
        io_uring_buf_ring_add(buffers, received[id], BUFFER_BYTES, id, io_uring_buf_ring_mask(BUFFERS), id);
    io_uring_buf_ring_advance(buffers, BUFFERS);
    return 0;
}

/* Receives one byte, and expects that more may follow. */
static const char *try_it(void) {
    int pair[2];
    connection c = { 0 };
    struct io_uring_cqe *cqe;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || write(pair[1], "x", 1) != 1) return "no sockets";
    c.fd = pair[0];
    receive_all(&c);
    int error = io_uring_submit_and_wait(&ring, 1);
    if (error < 0 || (error = io_uring_wait_cqe(&ring, &cqe))) return errno = -error, "io_uring does not wait";
    if (cqe->res != 1 || !(cqe->flags & IORING_CQE_F_MORE))
        return errno = cqe->res < 0 ? -cqe->res : ENOSYS, "the kernel has no multishot receive";
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2) return fprintf(stderr, "uring PORT | --check\n"), 2;
    const char *missing = make_ring();
    if (!missing && !strcmp(argv[1], "--check")) {
        missing = try_it();
        if (!missing) return 0;
    }
    if (missing) return perror(missing), 1;
    int listener = listen_on(argv[1], SOCK_STREAM);
    if (listener < 0) return perror("uring"), 1;
    accept_all(listener);
    for (;;) {
        io_uring_submit_and_wait(&ring, 1);
        nanos now = now_in_nanos();
        struct io_uring_cqe *cqe;
        unsigned head, count = 0;
        io_uring_for_each_cqe(&ring, head, cqe) {
            completed(cqe, listener, now);
            count++;
        }
        io_uring_cq_advance(&ring, count);
        io_uring_buf_ring_advance(buffers, given_back);
        given_back = 0;
    }
}
