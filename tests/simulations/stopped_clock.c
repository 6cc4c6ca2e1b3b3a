/* Show a stopped wall clock to a process that loads this library first (LD_PRELOAD).

   The file STOPPED_CLOCK holds the moment: eight bytes, the seconds since 1970 in UTC. The monotonic clock goes on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *moment;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("STOPPED_CLOCK"), O_RDONLY);
    moment = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *found) {
    if ((clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) || moment == NULL) {
        return real_clock_gettime(clock, found);
    }
    found->tv_sec = *moment;
    found->tv_nsec = 0;
    return 0;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    (void)zone;
    found->tv_sec = *moment;
    found->tv_usec = 0;
    return 0;
}

time_t time(time_t *found) {
    if (found != NULL) {
        *found = *moment;
    }
    return *moment;
}
