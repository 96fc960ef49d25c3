/* A small web server for tests of services: socket activation, readiness, a graceful end.
 *
 * It answers every request with the content of /share/version. What /share/mode says:
 *   ok      serve                       error   answer everything with 500
 *   exit    end at once with status 3   hang    never accept anything
 *   slow    begin to serve after 1 s    notify  serve, and say READY=1 (sd_notify(3)) after 0.3 s
 * Listens on descriptor 3 if LISTEN_FDS says so, else on 127.0.0.1:PORT. After SIGTERM it closes
 * its listening socket, answers what it has accepted, and ends. SIGHUP: it reads its file again.
 *
 *   --show FILE          answer with FILE instead of /share/version
 *   --user               answer with the name of its user, and that of its group
 *   --credential NAME    the same with a file in CREDENTIALS_DIRECTORY
 * As a task, it changes or keeps the one line that is its state, $HOME/data:
 *   --write TEXT, --snapshot, --restore (from and to APPB_SNAPSHOT), --fail, --wait (for ever)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX 512
#define IDLE_MS 1000

static volatile sig_atomic_t ending, again;
static char version[128], mode[32];

static void on_term(int number) { (void)number; ending = 1; }

static void on_hup(int number) {
    (void)number;
    again = 1;
    static const char text[] = "reloaded\n";
    if (write(1, text, sizeof text - 1) < 0) _exit(1);
}

static void read_word(const char *path, char *into, size_t size) {
    int fd = open(path, O_RDONLY);
    ssize_t got = fd < 0 ? 0 : read(fd, into, size - 1);
    into[got > 0 ? got : 0] = 0;
    into[strcspn(into, "\n")] = 0;
    if (fd >= 0) close(fd);
}

static int write_word(const char *path, const char *word) {
    char line[160];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int size = snprintf(line, sizeof line, "%s\n", word);
    return fd < 0 || write(fd, line, size) != size;
}

static int task(const char *what, const char *text) {
    char data[256], word[128];
    const char *kept = getenv("APPB_SNAPSHOT");
    snprintf(data, sizeof data, "%s/data", getenv("HOME"));
    if (!strcmp(what, "--write")) return write_word(data, text);
    if (!strcmp(what, "--wait")) for (;;) pause();
    if (!strcmp(what, "--fail") || !kept) return 3;
    if (!strcmp(what, "--snapshot")) {
        char parent[256];
        snprintf(parent, sizeof parent, "%s/.snapshots", getenv("HOME"));
        mkdir(parent, 0700);
        read_word(data, word, sizeof word);
        return write_word(kept, word);
    }
    read_word(kept, word, sizeof word);
    return write_word(data, word);
}

static long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void sleep_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static int listening(void) {
    if (getenv("LISTEN_FDS") && atoi(getenv("LISTEN_FDS")) >= 1) return 3;
    const char *port = getenv("PORT");
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port ? atoi(port) : 8080)};
    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (void *)&at, sizeof at) || listen(fd, 511)) {
        perror("listen");
        exit(4);
    }
    return fd;
}

static void say_ready(void) {
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path) return;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    if (to.sun_path[0] == '@') to.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    sendto(fd, "READY=1", 7, 0, (void *)&to,
           offsetof(struct sockaddr_un, sun_path) + strlen(path));
    close(fd);
}

static int answer(int fd, const char *request) {
    char head[512];
    int close_after = ending || strcasestr(request, "connection: close") != NULL;
    int broken = !strcmp(mode, "error");
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n%s\n",
                        broken ? "500 Broken" : "200 OK", strlen(version) + 1,
                        close_after ? "close" : "keep-alive", version);
    if (write(fd, head, size) != size) return 1;
    return close_after;
}

static void name_user(void) {
    struct passwd *user = getpwuid(getuid());
    struct group *group = getgrgid(getgid());
    snprintf(version, sizeof version, "%s %s", user ? user->pw_name : "?",
             group ? group->gr_name : "?");
}

int main(int argc, char **argv) {
    char shown[256] = "/share/version";
    if (argc > 2 && !strcmp(argv[1], "--show")) snprintf(shown, sizeof shown, "%s", argv[2]);
    else if (argc > 2 && !strcmp(argv[1], "--credential"))
        snprintf(shown, sizeof shown, "%s/%s", getenv("CREDENTIALS_DIRECTORY"), argv[2]);
    else if (argc > 1 && strcmp(argv[1], "--once") && strcmp(argv[1], "--user"))
        return task(argv[1], argc > 2 ? argv[2] : "");
    read_word(shown, version, sizeof version);
    if (argc > 1 && !strcmp(argv[1], "--user")) name_user();
    read_word("/share/mode", mode, sizeof mode);
    if (argc > 1 && !strcmp(argv[1], "--once")) {
        printf("ran %s\n", version);
        return 0;
    }
    if (!strcmp(mode, "exit")) return 3;
    signal(SIGTERM, on_term);
    signal(SIGHUP, on_hup);
    signal(SIGPIPE, SIG_IGN);
    int from = listening();
    printf("serving %s\n", strstr(shown, "/share/") ? version : "");
    fflush(stdout);
    if (!strcmp(mode, "hang"))
        while (!ending) pause();
    if (!strcmp(mode, "slow")) sleep_ms(1000);
    if (!strcmp(mode, "notify")) { sleep_ms(300); say_ready(); }
    fcntl(from, F_SETFL, O_NONBLOCK);
    struct pollfd polled[MAX] = {{.fd = from, .events = POLLIN}};
    static char request[MAX][4096];
    size_t got[MAX] = {0};
    long seen[MAX] = {0};
    int count = 1;
    while (!ending || count > 1) {
        if (again) {
            again = 0;
            read_word(shown, version, sizeof version);
        }
        polled[0].fd = ending ? -1 : from;
        poll(polled, count, ending ? 20 : 1000);
        for (int i = count - 1; i >= 1; i--) {
            int done = ending && !got[i] && now_ms() - seen[i] > IDLE_MS;
            if (polled[i].revents) {
                ssize_t n = read(polled[i].fd, request[i] + got[i], sizeof request[i] - 1 - got[i]);
                if (n > 0) {
                    got[i] += n;
                    request[i][got[i]] = 0;
                    if (strstr(request[i], "\r\n\r\n")) {
                        done = answer(polled[i].fd, request[i]);
                        got[i] = 0;
                        seen[i] = now_ms();
                    }
                } else if (n == 0 || errno != EAGAIN) {
                    done = 1;
                }
            }
            if (done) {
                close(polled[i].fd);
                count--;
                polled[i] = polled[count];
                got[i] = got[count];
                seen[i] = seen[count];
                memcpy(request[i], request[count], sizeof request[i]);
            }
        }
        while (!ending && count < MAX) {
            int fd = accept4(from, NULL, NULL, SOCK_NONBLOCK);
            if (fd < 0) break;
            polled[count] = (struct pollfd){.fd = fd, .events = POLLIN};
            got[count] = 0;
            seen[count++] = now_ms();
        }
    }
    return 0;
}
