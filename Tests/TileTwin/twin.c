// The tile instructions in plain C, after their description in Intel's manual; what is a fault there is one here.
#include "CTileTwin.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TILE_CODE
#define TILE_CONFIGURE(shapes) configure(shapes)
#define TILE_ZERO(r) zero(r)
#define TILE_LOAD(r, base, stride) load(r, (const char *)(base), stride)
#define TILE_STORE(r, base, stride) store(r, (char *)(base), stride)
#define TILE_DOT(sum, rows, columns) dot(sum, rows, columns)
#define TILE_RELEASE() (is_configured = false)

typedef struct {
  int rows, row_bytes;
  uint32_t words[16][16];
} tile;

static _Thread_local tile tiles[8];
static _Thread_local bool is_configured;

static void require(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "tile instruction: %s\n", what);
  abort();
}

static tile *used(int r) {
  require(is_configured && tiles[r].rows > 0, "the register has no shape");
  return &tiles[r];
}

static void load(int r, const char *base, long stride) {
  tile *t = used(r);
  memset(t->words, 0, sizeof t->words);
  for (int row = 0; row < t->rows; row++) memcpy(t->words[row], base + row * stride, (size_t)t->row_bytes);
}

static void store(int r, char *base, long stride) {
  tile *t = used(r);
  for (int row = 0; row < t->rows; row++) memcpy(base + row * stride, t->words[row], (size_t)t->row_bytes);
}

static void zero(int r) { memset(used(r)->words, 0, sizeof tiles[r].words); }

/// Subnormal numbers are zeros, as operands and as results.
static float flushed(float x) { return fabsf(x) < FLT_MIN ? copysignf(0, x) : x; }

static float number(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return flushed(x);
}

/// x * y + sum, rounded once: the product is exact in double, and so is what a float keeps of the sum.
static float fused(float x, float y, float sum) { return (float)((double)x * y + sum); }

/// Sums of the even and of the odd products, each fused, then both to the old sum.
static void dot(int sum, int rows, int columns) {
  tile *c = used(sum), *a = used(rows), *b = used(columns);
  require(c->rows == a->rows && c->row_bytes == b->row_bytes && a->row_bytes == 4 * b->rows, "shapes do not match");
  for (int m = 0; m < c->rows; m++) {
    float even[16] = {0}, odd[16] = {0};
    for (int k = 0; k < b->rows; k++) {
      uint32_t x = a->words[m][k];
      for (int n = 0; n < c->row_bytes / 4; n++) {
        uint32_t y = b->words[k][n];
        even[n] = flushed(fused(number(x << 16), number(y << 16), even[n]));
        odd[n] = flushed(fused(number(x & 0xffff0000u), number(y & 0xffff0000u), odd[n]));
      }
    }
    for (int n = 0; n < c->row_bytes / 4; n++) {
      float total = flushed(number(c->words[m][n]) + flushed(even[n] + odd[n]));
      memcpy(&c->words[m][n], &total, 4);
    }
  }
}

static void configure(const void *shapes);
#include "../../Sources/CPlatform/tile_product.h"

static void configure(const void *memory) {
  const tile_shapes *s = memory;
  require(s->palette == 1 && s->start_row == 0, "the palette");
  for (int r = 0; r < 16; r++) {
    require(s->rows[r] <= 16 && s->row_bytes[r] <= 64 && (s->rows[r] == 0) == (s->row_bytes[r] == 0), "a shape");
    require(r < 8 || s->rows[r] == 0, "a register that is not there");
    if (r < 8) tiles[r] = (tile){.rows = s->rows[r], .row_bytes = s->row_bytes[r]};
  }
  is_configured = true;
}

void tt_multiply(
    const float *a, long lanes, const float *b, long columns, long panel_pitch, long words, float *c, bool overwrite,
    int32_t mode) {
  (void)mode;
  tile_product(a, lanes, b, columns, panel_pitch, words, c, overwrite);
}
