#define _GNU_SOURCE
#include "cplatform.h"
#if defined(__linux__)
#include <sched.h>

int cp_allowed_processor_count(void) {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
  int n = CPU_COUNT(&mask);
  return n > 0 ? n : 1;
}

int cp_pin_to_allowed_processor(int index) {
  cpu_set_t mask, one;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return -1;
  for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    if (seen++ == index) {
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      return sched_setaffinity(0, sizeof one, &one);
    }
  }
  return -1;
}
#else
int cp_allowed_processor_count(void) { return 1; }
int cp_pin_to_allowed_processor(int index) { (void)index; return -1; }
#endif
