/* Preloaded into a private redis-server: its wall clock is a number of milliseconds in a file, and
   syncing costs nothing. The monotonic clock stays as it is, so its event loop runs. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const uint64_t *milliseconds;

__attribute__((constructor)) static void attach(void) {
  int file = open(getenv("KURIER_CLOCK"), O_RDONLY);
  milliseconds = mmap(0, sizeof *milliseconds, PROT_READ, MAP_SHARED, file, 0);
  close(file);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  if (clock != CLOCK_REALTIME || !milliseconds)
    return (int)syscall(SYS_clock_gettime, clock, at);
  uint64_t now = *milliseconds;
  at->tv_sec = (time_t)(now / 1000);
  at->tv_nsec = (long)(now % 1000) * 1000000;
  return 0;
}

int gettimeofday(struct timeval *at, void *zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}

int fdatasync(int file) { (void)file; return 0; }
int fsync(int file) { (void)file; return 0; }
