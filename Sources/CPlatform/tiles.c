#define _GNU_SOURCE
#include "cplatform.h"
#if defined(__x86_64__)

// clang names these attributes, and lets a function use the instructions that the file as a whole may not.
#define TILE_CODE __attribute__((target("amx-tile,amx-bf16")))
#define TILE_CONFIGURE(shapes) _tile_loadconfig(shapes)
#define TILE_ZERO(r) _tile_zero(r)
#define TILE_LOAD(r, base, stride) _tile_loadd(r, base, stride)
#define TILE_STORE(r, base, stride) _tile_stored(r, base, stride)
#define TILE_DOT(sum, rows, columns) _tile_dpbf16ps(sum, rows, columns)
#define TILE_RELEASE() _tile_release()
#include "tile_product.h"

TILE_CODE void cp_multiply_tiles(
    const float *a, long lanes, const float *b, long columns, long panel_pitch, long words, float *c, bool overwrite,
    int32_t mode) {
  (void)mode;  // pairs
  tile_product(a, lanes, b, columns, panel_pitch, words, c, overwrite);
}

#if defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t enabled_states(void) {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

int cp_may_use_tiles(void) {
  const unsigned os_xsave = 1u << 27, bf16 = 1u << 22, tile = 1u << 24;
  const uint64_t tile_states = 3u << 17;  // TILECFG and TILEDATA
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & os_xsave)) return 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (bf16 | tile)) != (bf16 | tile)) return 0;
  if ((enabled_states() & tile_states) != tile_states) return 0;
  // Linux gives the state of tiles to processes that ask for it; asking again changes nothing.
  const int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#else
int cp_may_use_tiles(void) { return 0; }
#endif
#endif
