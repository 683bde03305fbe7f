// System calls that fail, for a program that is started with this library in LD_PRELOAD: full disks and failing ones,
// without either. Calls count that concern a file whose path holds FAULT_PATH.
//
//   FAULT_CALL   which: write, fsync, rename, mmap, read, madvise, pthread_create; several with commas
//   FAULT_CODE   errno of the failure
//   FAULT_NTH    only the n-th of these calls fails, counted from 1; or
//   FAULT_AFTER  all fail once so many bytes went through them (calls that move no bytes count as one)
//   FAULT_LOG    a file that gets a line "call path" for each
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long calls, bytes;

static long number(const char *name) { return getenv(name) ? atol(getenv(name)) : 0; }

static int is_wanted(const char *call) {
  const char *list = getenv("FAULT_CALL");
  size_t length = strlen(call);
  for (const char *at = list; at && (at = strstr(at, call)); at += length) {
    if ((at == list || at[-1] == ',') && (at[length] == 0 || at[length] == ',')) return 1;
  }
  return 0;
}

static void note(const char *call, const char *path) {
  const char *log = getenv("FAULT_LOG");
  if (!log) return;
  int file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  char line[PATH_MAX + 64];
  int count = snprintf(line, sizeof line, "%s %s\n", call, path);
  if (file >= 0 && count > 0) syscall(SYS_write, file, line, (size_t)count < sizeof line ? count : sizeof line - 1);
  if (file >= 0) syscall(SYS_close, file);
}

// Whether a call on `path` fails; `path` is NULL for calls without a file.
static int fails_at(const char *call, const char *path, long count) {
  if (!is_wanted(call)) return 0;
  const char *part = getenv("FAULT_PATH");
  if (path && part && !strstr(path, part)) return 0;
  note(call, path ? path : "");
  long nth = number("FAULT_NTH"), n = atomic_fetch_add(&calls, 1) + 1;
  long moved = atomic_fetch_add(&bytes, count) + count;
  if (!getenv("FAULT_CODE") || (nth ? n != nth : moved <= number("FAULT_AFTER"))) return 0;
  errno = number("FAULT_CODE");
  return 1;
}

static int fails(const char *call, int file, long count) {
  char link[64], path[PATH_MAX] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  if (!is_wanted(call) || readlink(link, path, sizeof path - 1) < 0 || path[0] != '/') return 0;
  return fails_at(call, path, count);
}

#define NEXT(type, name, ...) \
  static type (*next)(__VA_ARGS__); \
  if (!next) *(void **)&next = dlsym(RTLD_NEXT, name)

#define TRANSFER_AT(name, call, type) \
  ssize_t name(int file, type data, size_t count, off_t offset) { \
    NEXT(ssize_t, #name, int, type, size_t, off_t); \
    return fails(call, file, count) ? -1 : next(file, data, count, offset); \
  }
TRANSFER_AT(pwrite, "write", const void *)
TRANSFER_AT(pwrite64, "write", const void *)
TRANSFER_AT(pread, "read", void *)
TRANSFER_AT(pread64, "read", void *)

#define TRANSFER(name, type) \
  ssize_t name(int file, type data, size_t count) { \
    NEXT(ssize_t, #name, int, type, size_t); \
    return fails(#name, file, count) ? -1 : next(file, data, count); \
  }
TRANSFER(write, const void *)
TRANSFER(read, void *)

// The C library's own streams, which Lua uses, do not come by the functions above.
size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
  NEXT(size_t, "fwrite", const void *, size_t, size_t, FILE *);
  return fails("write", fileno(stream), size * count) ? 0 : next(data, size, count, stream);
}
size_t fread(void *data, size_t size, size_t count, FILE *stream) {
  NEXT(size_t, "fread", void *, size_t, size_t, FILE *);
  return fails("read", fileno(stream), size * count) ? 0 : next(data, size, count, stream);
}
int fflush(FILE *stream) {
  NEXT(int, "fflush", FILE *);
  return stream && fails("write", fileno(stream), 1) ? EOF : next(stream);
}

#define SYNC(name) \
  int name(int file) { \
    NEXT(int, #name, int); \
    return fails("fsync", file, 1) ? -1 : next(file); \
  }
SYNC(fsync)
SYNC(fdatasync)

static int rename_fails(const char *target) {
  char path[2 * PATH_MAX] = "";
  if (target[0] != '/' && getcwd(path, PATH_MAX)) strcat(path, "/");
  strncat(path, target, PATH_MAX - 1);
  return fails_at("rename", path, 1);
}
int rename(const char *source, const char *target) {
  NEXT(int, "rename", const char *, const char *);
  return rename_fails(target) ? -1 : next(source, target);
}
int renameat2(int from, const char *source, int to, const char *target, unsigned flags) {
  NEXT(int, "renameat2", int, const char *, int, const char *, unsigned);
  return rename_fails(target) ? -1 : next(from, source, to, target, flags);
}

#define MAP(name) \
  void *name(void *address, size_t count, int rights, int flags, int file, off_t offset) { \
    NEXT(void *, #name, void *, size_t, int, int, int, off_t); \
    return file >= 0 && fails("mmap", file, 1) ? MAP_FAILED : next(address, count, rights, flags, file, offset); \
  }
MAP(mmap)
MAP(mmap64)

// MADV_POPULATE_READ, which reads a mapped model ahead.
int madvise(void *address, size_t count, int advice) {
  NEXT(int, "madvise", void *, size_t, int);
  return advice == 22 && fails_at("madvise", NULL, 1) ? -1 : next(address, count, advice);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *settings, void *(*body)(void *), void *argument) {
  NEXT(int, "pthread_create", pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  return fails_at("pthread_create", NULL, 1) ? EAGAIN : next(thread, settings, body, argument);
}
