/* What both servers in C do with a line: read its fields, keep where the client is, append the answer. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef __int128 nanos;
typedef struct { const char *at, *end; } text;

enum { READ_BYTES = 65536, LINE_BYTES = 4096, BUCKETS = 1 << 20 };

/* ---- what a field may look like ------------------------------------------------------------ */

static int is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v'; }
static int is_digit(char c) { return c >= '0' && c <= '9'; }
static long bytes(text t) { return t.end - t.at; }

static text digits(text *rest) {
    text found = { rest->at, rest->at };
    while (found.end < rest->end && is_digit(*found.end)) found.end++;
    rest->at = found.end;
    return found;
}

/* `1*digits` or `1*digits.1*digits`. */
static int decimal(text *rest, text *whole, text *fraction) {
    *whole = digits(rest);
    *fraction = (text){ 0, 0 };
    if (bytes(*whole) == 0) return 0;
    if (rest->at == rest->end || *rest->at != '.') return 1;
    rest->at++;
    *fraction = digits(rest);
    return bytes(*fraction) > 0;
}

static long number(const char *at, long count) {
    long value = 0;
    while (count-- > 0) value = value * 10 + (*at++ - '0');
    return value;
}

static int is_sign(text rest) { return rest.at < rest.end && (*rest.at == '+' || *rest.at == '-'); }

/* Degrees, degrees and minutes, or degrees, minutes and seconds, by the number of digits. */
static int angle(text *rest, int width, long greatest) {
    text whole, fraction;
    if (!is_sign(*rest)) return 0;
    rest->at++;
    if (!decimal(rest, &whole, &fraction)) return 0;
    long count = bytes(whole);
    if (count > width && count != width + 2 && count != width + 4) return 0;
    long degree_digits = count > width ? width : count;
    long degrees = number(whole.at, degree_digits);
    long minutes = count > width ? number(whole.at + width, 2) : 0;
    long seconds = count > width + 2 ? number(whole.at + width + 2, 2) : 0;
    if (minutes >= 60 || seconds >= 60) return 0;
    if (degrees < greatest) return 1;
    if (degrees > greatest || minutes || seconds) return 0;
    for (const char *at = fraction.at; at < fraction.end; at++) if (*at != '0') return 0;
    return 1;
}

static int is_location(text field) {
    static const char reference[] = "CRSWGS_84";
    text whole, fraction;
    if (bytes(field) > 64) return 0;
    if (!angle(&field, 2, 90) || !angle(&field, 3, 180)) return 0;
    if (is_sign(field)) {
        field.at++;
        if (!decimal(&field, &whole, &fraction)) return 0;
    }
    if (bytes(field) >= 9 && memcmp(field.at, reference, 9) == 0) field.at += 9;
    if (field.at < field.end && *field.at == '/') field.at++;
    return field.at == field.end;
}

static int is_timestamp(text field, nanos now, nanos *value) {
    text whole, fraction;
    if (bytes(field) > 40 || !decimal(&field, &whole, &fraction)) return 0;
    if (field.at != field.end || bytes(whole) > 18) return 0;
    *value = (nanos)number(whole.at, bytes(whole)) * 1000000000;
    long scale = 100000000;
    for (const char *at = fraction.at; at < fraction.end && scale; at++, scale /= 10)
        *value += (*at - '0') * scale;
    return *value <= now + (nanos)300 * 1000000000; /* five minutes ahead at most */
}

/* ---- where each client is: a hash table with chains ---------------------------------------- */

typedef struct client {
    struct client *next;
    nanos timestamp;
    uint16_t id_bytes, location_bytes;
    char id[256], location[64];
} client;

static client *clients[BUCKETS];

static void store(text id, text location, nanos timestamp) {
    uint64_t hash = 14695981039346656037u;
    for (const char *at = id.at; at < id.end; at++) hash = (hash ^ (uint8_t)*at) * 1099511628211u;
    client **place = &clients[hash & (BUCKETS - 1)];
    for (; *place; place = &(*place)->next)
        if ((*place)->id_bytes == bytes(id) && !memcmp((*place)->id, id.at, bytes(id))) break;
    if (!*place) {
        if (!(*place = calloc(1, sizeof(client)))) return;
        (*place)->id_bytes = bytes(id);
        memcpy((*place)->id, id.at, bytes(id));
        (*place)->timestamp = -1;
    }
    if (timestamp <= (*place)->timestamp) return;
    (*place)->timestamp = timestamp;
    (*place)->location_bytes = bytes(location);
    memcpy((*place)->location, location.at, bytes(location));
}

/* ---- a line and its answer ----------------------------------------------------------------- */

static char *append(char *out, text t) { return (char *)mempcpy(out, t.at, bytes(t)); }

static char *answer(text line, nanos now, char *out) {
    text field[5];
    int count = 0;
    if (line.end > line.at && line.end[-1] == '\r') line.end--;
    for (const char *at = line.at; at < line.end && count < 5;) {
        while (at < line.end && is_space(*at)) at++;
        const char *begin = at;
        while (at < line.end && !is_space(*at)) at++;
        if (at > begin) field[count++] = (text){ begin, at };
    }
    nanos timestamp;
    if (count == 4 && bytes(field[0]) == 5 && !memcmp(field[0].at, "IAMAT", 5)
        && bytes(field[1]) <= 256 && is_location(field[2])
        && is_timestamp(field[3], now, &timestamp)) {
        store(field[1], field[2], timestamp);
        out = mempcpy(out, "AT AT", 5);
        for (int i = 1; i < 4; i++) { *out++ = ' '; out = append(out, field[i]); }
    } else {
        out = mempcpy(out, "? ", 2);
        out = append(out, line);
    }
    *out++ = '\n';
    return out;
}

static char input[LINE_BYTES + READ_BYTES], output[3 * (LINE_BYTES + READ_BYTES)];

/* Answers all whole lines from `*at` on. Returns the end of what is in `output`; `*at` is where a begun line is left. */
static char *answers(char **at, char *end, nanos now) {
    char *out = output, *feed;
    while ((feed = memchr(*at, '\n', end - *at))) {
        out = answer((text){ *at, feed }, now, out);
        *at = feed + 1;
    }
    return out;
}

static nanos now_in_nanos(void) {
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock);
    return (nanos)clock.tv_sec * 1000000000 + clock.tv_nsec;
}

/* A socket that listens, or -1. */
static int listen_on(const char *port, int kind) {
    int listener = socket(AF_INET, kind, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(port)),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) return -1;
    return listener;
}
