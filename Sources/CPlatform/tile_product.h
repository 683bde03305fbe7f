// The product of packed panels of bfloat16 pairs by the tiles of AMX: see `MatmulKernels.Multiply`. A word of a panel
// is a pair, so 16 words of 16 lanes are a tile as they lie in memory.
//
// It is written over names of the tile instructions, which the file that includes this one defines first: those of the
// processor (tiles.c), or plain C (Tests/TileTwin):
//   TILE_CODE                  attributes of functions that use tiles
//   TILE_CONFIGURE(shapes)     gives the eight registers their shapes
//   TILE_ZERO(r), TILE_LOAD(r, base, stride), TILE_STORE(r, base, stride), with the stride in bytes
//   TILE_DOT(sum, rows, columns)   adds the products of pairs
//   TILE_RELEASE()
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum {
  TILE_SIZE = 16,         // rows of a register, and words of one
  TILE_ROWS = 32,         // lanes of a row panel
  TILE_COLUMNS = 32,      // lanes of a column panel
  TILE_PITCH = 256 * 4,   // bytes between the lanes of a row panel: MatmulKernels.panelStride words
  TILE_SUMS_PITCH = TILE_COLUMNS * 4,
};

// The registers, by number because instructions name them so. Sums: 0 and 1 the left and right columns of the upper
// rows, 2 and 3 those of the lower rows. Operands: 4 upper rows, 5 lower rows, 6 left columns, 7 right columns.

/// What LDTILECFG reads.
typedef struct {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} tile_shapes;

TILE_CODE static inline void tile_configure(long lanes, long depth) {
  long upper = lanes < TILE_SIZE ? lanes : TILE_SIZE, lower = lanes - upper;
  tile_shapes s = {.palette = 1};
  for (int r = 0; r < 4; r++) {
    s.rows[r] = (uint8_t)(r < 2 ? upper : lower);
    s.row_bytes[r] = s.rows[r] > 0 ? 4 * TILE_SIZE : 0;
  }
  for (int r = 4; r < 6; r++) {
    s.rows[r] = (uint8_t)(r == 4 ? upper : lower);
    s.row_bytes[r] = (uint16_t)(s.rows[r] > 0 ? 4 * depth : 0);
  }
  for (int r = 6; r < 8; r++) {
    s.rows[r] = (uint8_t)depth;
    s.row_bytes[r] = 4 * TILE_SIZE;
  }
  TILE_CONFIGURE(&s);
}

/// One column panel: `words` is a multiple of `depth`. The branches on `lower` and `right` are constants.
TILE_CODE static inline __attribute__((always_inline)) void tile_panel(
    const float *a, const float *b, long words, long depth, float *c, bool overwrite, bool lower, bool right) {
  float *below = c + TILE_SIZE * TILE_COLUMNS;
  if (overwrite) {
    TILE_ZERO(0);
    if (right) TILE_ZERO(1);
    if (lower) TILE_ZERO(2);
    if (lower && right) TILE_ZERO(3);
  } else {
    TILE_LOAD(0, c, TILE_SUMS_PITCH);
    if (right) TILE_LOAD(1, c + TILE_SIZE, TILE_SUMS_PITCH);
    if (lower) TILE_LOAD(2, below, TILE_SUMS_PITCH);
    if (lower && right) TILE_LOAD(3, below + TILE_SIZE, TILE_SUMS_PITCH);
  }
  for (long word = 0; word < words; word += depth) {
    const float *columns = b + word * TILE_COLUMNS;
    TILE_LOAD(6, columns, 4 * TILE_COLUMNS);
    TILE_LOAD(4, a + word, TILE_PITCH);
    TILE_DOT(0, 4, 6);
    if (right) {
      TILE_LOAD(7, columns + TILE_SIZE, 4 * TILE_COLUMNS);
      TILE_DOT(1, 4, 7);
    }
    if (lower) {
      TILE_LOAD(5, a + word + TILE_SIZE * (TILE_PITCH / 4), TILE_PITCH);
      TILE_DOT(2, 5, 6);
      if (right) TILE_DOT(3, 5, 7);
    }
  }
  TILE_STORE(0, c, TILE_SUMS_PITCH);
  if (right) TILE_STORE(1, c + TILE_SIZE, TILE_SUMS_PITCH);
  if (lower) TILE_STORE(2, below, TILE_SUMS_PITCH);
  if (lower && right) TILE_STORE(3, below + TILE_SIZE, TILE_SUMS_PITCH);
}

/// All column panels, over `words` of the contraction in steps of `depth`.
TILE_CODE static inline void tile_panels(
    const float *a, long lanes, const float *b, long columns, long panel_pitch, long words, long depth, float *c,
    bool overwrite) {
  tile_configure(lanes, depth);
  bool lower = lanes > TILE_SIZE;
  for (; columns > 0; columns -= TILE_COLUMNS, b += panel_pitch, c += TILE_ROWS * TILE_COLUMNS) {
    bool right = columns > TILE_SIZE;
    if (lower && right) tile_panel(a, b, words, depth, c, overwrite, true, true);
    else if (lower) tile_panel(a, b, words, depth, c, overwrite, true, false);
    else if (right) tile_panel(a, b, words, depth, c, overwrite, false, true);
    else tile_panel(a, b, words, depth, c, overwrite, false, false);
  }
}

/// Words that do not fill a tile come last, in tiles that are as deep as they are many: what lies behind them in a
/// column panel is left from other products. The order of a sum follows from the number of words alone.
TILE_CODE static inline void tile_product(
    const float *a, long lanes, const float *b, long columns, long panel_pitch, long words, float *c, bool overwrite) {
  long whole = words / TILE_SIZE * TILE_SIZE, rest = words - whole;
  if (whole > 0) tile_panels(a, lanes, b, columns, panel_pitch, whole, TILE_SIZE, c, overwrite);
  if (rest > 0) {
    tile_panels(
        a + whole, lanes, b + whole * TILE_COLUMNS, columns, panel_pitch, rest, rest, c, overwrite && whole == 0);
  }
  TILE_RELEASE();
}
