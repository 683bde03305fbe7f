// A program without a system, for an emulator: the products of tiles against the same in plain C, bit for bit.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include "CTileTwin.h"
#include "cplatform.h"

// What the tested files need of a C library.

static void out(uint16_t port, uint8_t byte) { __asm__ volatile("outb %0, %1" : : "a"(byte), "Nd"(port)); }
static void say(const char *text) {
  while (*text) out(0xe9, (uint8_t)*text++);  // to the output of Bochs
}
static void say_number(uint32_t x, uint32_t base) {
  char digits[12] = {0}, *p = digits + 11;
  do *--p = "0123456789abcdef"[x % base];
  while (x /= base);
  say(p);
}
void *memcpy(void *to, const void *from, size_t count) {
  void *result = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  return result;
}
void *memset(void *to, int byte, size_t count) {
  void *result = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(byte) : "memory");
  return result;
}
FILE *stderr;
int fprintf(FILE *file, const char *format, ...) {
  (void)file;
  va_list list;
  va_start(list, format);
  say("AMX: twin: "), say(va_arg(list, const char *)), say("\n");
  va_end(list);
  return 0;
}
/// Ends the emulator.
_Noreturn void abort(void) {
  for (const char *word = "Shutdown"; *word; word++) out(0x8900, (uint8_t)*word);
  for (;;) __asm__ volatile("hlt");
}
/// The system gives the permission; to another question the answer is no.
long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  int request = va_arg(list, int), feature = va_arg(list, int);
  va_end(list);
  return number == SYS_arch_prctl && request == 0x1023 && feature == 18 ? 0 : -1;
}

enum { PITCH = 256, PANEL = PITCH * 32, SUMS = 32 * 32, PANELS = 3, CASES = 500 };

typedef struct {
  uint64_t random;
  int failures, products;
  float a[32 * PITCH], b[PANELS * PANEL], got[PANELS * SUMS], want[PANELS * SUMS];
} work;

static uint32_t next(work *w) {
  w->random ^= w->random << 13, w->random ^= w->random >> 7, w->random ^= w->random << 17;
  return (uint32_t)(w->random >> 16);
}

/// A number around 1, at times an odd one: subnormal, tiny, huge, infinite or none.
static uint32_t number(work *w, bool odd) {
  uint32_t r = next(w), sign = r & 0x80000000u, fraction = r & 0x007fffffu;
  if (odd && next(w) % 16 == 0) {
    static const uint32_t exponents[] = {0, 0, 1, 40, 60, 190, 210, 254};
    if (next(w) % 64 == 0) return sign | 0x7f800000u | (next(w) % 2 ? fraction | 0x10000u : 0);
    return sign | exponents[r >> 23 & 7] << 23 | fraction;
  }
  return sign | (124 + (r >> 23 & 3)) << 23 | fraction;
}

static void fill(work *w, float *p, int count, bool pairs, bool odd) {
  for (int i = 0; i < count; i++) {
    uint32_t bits = pairs ? number(w, odd) >> 16 | (number(w, odd) & 0xffff0000u) : number(w, odd);
    memcpy(&p[i], &bits, 4);
  }
}

static void check(work *w, int lanes, int columns, int words, bool overwrite, bool odd) {
  fill(w, w->got, PANELS * SUMS, false, odd);
  memcpy(w->want, w->got, sizeof w->want);
  cp_multiply_tiles(w->a, lanes, w->b, columns, PANEL, words, w->got, overwrite, 1);
  tt_multiply(w->a, lanes, w->b, columns, PANEL, words, w->want, overwrite, 1);
  w->products++;
  for (int i = 0; i < PANELS * SUMS; i++) {
    uint32_t got, want;
    memcpy(&got, &w->got[i], 4), memcpy(&want, &w->want[i], 4);
    if (got == want || (w->got[i] != w->got[i] && w->want[i] != w->want[i])) continue;
    if (w->failures++ < 5) {
      const struct { const char *name; int value; } facts[] = {
          {"lanes ", lanes}, {" columns ", columns}, {" words ", words}, {" overwrite ", overwrite}, {" odd ", odd},
          {": sum ", i}};
      for (int f = 0; f < 6; f++) say(facts[f].name), say_number((uint32_t)facts[f].value, 10);
      say(" is "), say_number(got, 16), say(", not "), say_number(want, 16), say("\n");
    }
    break;
  }
}

void test(void) {
  static work w;
  w.random = 0x9e3779b97f4a7c15u;
  say("AMX: begin\n");
  if (!cp_cpu_supports(4)) {
    say("AMX: not supported: FAILED\n");
    abort();
  }
  for (int i = 0; i < CASES; i++) {
    bool odd = i / 8 % 2;
    if (i % 8 == 0) fill(&w, w.a, 32 * PITCH, true, odd), fill(&w, w.b, PANELS * PANEL, true, odd);
    int words = 1 + (int)(next(&w) % (i % 10 == 0 ? 256 : 40));
    int columns = 1 + (int)(next(&w) % (i % 5 == 0 ? 96 : 64));
    check(&w, 1 + (int)(next(&w) % 32), columns, words, next(&w) % 2, odd);
  }
  say("AMX: "), say_number((uint32_t)w.products, 10), say(" products, "), say_number((uint32_t)w.failures, 10);
  say(w.failures == 0 ? " differ: passed\n" : " differ: FAILED\n");
  abort();
}
