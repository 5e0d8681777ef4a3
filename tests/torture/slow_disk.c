/* A slow disk below $SLOW_FOLDER, for one process: each call that changes a file there takes SLOW_MS milliseconds, and
 * writes SLOW_MS more for each 64 KiB. Loaded by LD_PRELOAD, so that it also holds for the code below Python. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void wait_for(size_t bytes) {
  const char *ms = getenv("SLOW_MS");
  long long ns = (ms ? atoll(ms) : 0) * 1000000LL * (1 + (long long)(bytes >> 16));
  struct timespec left = {ns / 1000000000LL, ns % 1000000000LL};
  while (nanosleep(&left, &left)) {
  }
}

static int below(const char *path) {
  const char *folder = getenv("SLOW_FOLDER");
  return folder && path && !strncmp(path, folder, strlen(folder));
}

static int slow(int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return below(path);
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t count) {
  if (slow(fd)) wait_for(count);
  return REAL(write)(fd, data, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  size_t bytes = 0;
  for (int i = 0; i < count; i++) bytes += parts[i].iov_len;
  if (slow(fd)) wait_for(bytes);
  return REAL(writev)(fd, parts, count);
}

int fsync(int fd) {
  if (slow(fd)) wait_for(0);
  return REAL(fsync)(fd);
}

int rename(const char *from, const char *to) {
  if (below(to)) wait_for(0);
  return REAL(rename)(from, to);
}

int unlink(const char *path) {
  if (below(path)) wait_for(0);
  return REAL(unlink)(path);
}

int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if (below(path)) wait_for(0);
  return REAL(open64)(path, flags, mode);
}
