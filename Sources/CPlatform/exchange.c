#define _GNU_SOURCE
#include "cplatform.h"
#if defined(__linux__)
#include <fcntl.h>
#include <stdio.h>

int cp_exchange(const char *one, const char *other) {
  return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
}
#else
#include <errno.h>

int cp_exchange(const char *one, const char *other) {
  (void)one, (void)other;
  errno = ENOSYS;
  return -1;
}
#endif
