/* Preloaded, it adds to the wall clock the seconds (a double) that stand at the start of the file CLOCK_OFFSET.
   The monotonic clock stays as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int offset = -1;

__attribute__((constructor)) static void find(void) {
    const char *path = getenv("CLOCK_OFFSET");
    if (path) offset = open(path, O_RDONLY | O_CLOEXEC);
}

static void shift(struct timespec *when) {
    double by = 0.0;
    if (offset < 0 || pread(offset, &by, sizeof by, 0) != sizeof by) return;
    long long nanos = (long long)when->tv_sec * 1000000000LL + when->tv_nsec + (long long)(by * 1e9);
    when->tv_sec = nanos / 1000000000LL;
    when->tv_nsec = nanos % 1000000000LL;
}

int clock_gettime(clockid_t which, struct timespec *when) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(which, when);
    if (!done && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) shift(when);
    return done;
}

int gettimeofday(struct timeval *when, void *zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    when->tv_sec = exact.tv_sec;
    when->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *when) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (when) *when = exact.tv_sec;
    return exact.tv_sec;
}
