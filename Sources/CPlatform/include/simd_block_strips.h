#pragma once
#include "simd_block_words.h"

// The products of a set of rows of x with a piece of a row of a matrix in a block format. In C, because the vectors of
// the rows are an array here, which stays in registers once the loops over it are unrolled, and because Swift takes ten
// times as long to compile the same.

/// a * b + c, rounded once where Swift's kernels do.
CP_INLINE f32x16 gg_madd(f32x16 a, f32x16 b, f32x16 c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_elementwise_fma(a, b, c);
#else
  return a * b + c;
#endif
}
#define GG_EACH_ROW _Pragma("clang loop unroll(full)") for (long r = 0; r < rows; r++)

/// What a loop over the rows of a matrix has as constants: the format, rows of x in the set (at most eight), and
/// whether x is pairs of bfloat16.
typedef struct {
  int32_t format;
  long rows;
  bool is_pairs;
} gg_loop;

/// Adds the products of 64 codes with each row, as they are.
CP_INLINE void gg_multiply(gg_loop loop, gg_group g, long half, long j, const float *x, f32x16 *products) {
  const long rows = loop.rows, stride = gg_group_stride(loop.format, loop.is_pairs);
#if defined(__AVX512BF16__)
  if (loop.is_pairs) {
    _Pragma("clang loop unroll(full)") for (long v = 2 * j; v < 2 * j + 2; v++) {
      u32x16 words = gg_group_words(loop.format, g, half, v);
      GG_EACH_ROW products[r] = mm_dot_pairs(products[r], words, (u32x16)mm_load(x + r * stride + 16 * v, 0));
    }
    return;
  }
#endif
  u32x16 bytes = gg_group_bytes(loop.format, g, half, j, true);
  _Pragma("clang loop unroll(full)") for (long t = 0; t < 4; t++) {
    f32x16 codes = gg_group_floats(bytes, t);
    GG_EACH_ROW products[r] = gg_madd(codes, mm_load(x + r * stride + (4 * j + t) * 16, 0), products[r]);
  }
}

/// Adds the products of a group to the sums of each row.
CP_INLINE void gg_add_group(
    gg_loop loop, gg_group g, const uint8_t *apart, long half, const float *x, f32x16 *sums) {
  const long rows = loop.rows, stride = gg_group_stride(loop.format, loop.is_pairs), words = loop.is_pairs ? 64 : 128;
  const bool has_minima = gg_has_minima(loop.format), is_single = gg_is_single(loop.format);
  f32x16 products[8], scales = gg_group_scales(loop.format, g, apart, half, 0);
  _Pragma("clang loop unroll(full)") for (long j = 0; j < 2; j++) {
    if (j == 0 || !is_single) {
      // What codes are less than bytes, times x.
      GG_EACH_ROW products[r] =
          loop.is_pairs || has_minima ? (f32x16)0.0f : mm_load(x + r * stride + words + 16 * j, 0);
    }
    gg_multiply(loop, g, half, j, x, products);
    if (j == 0 && is_single) continue;
    if (j == 1 && !is_single) scales = gg_group_scales(loop.format, g, apart, half, 1);
    GG_EACH_ROW sums[r] = gg_madd(products[r], scales, sums[r]);
  }
  if (!has_minima) return;
  f32x16 minima = gg_group_minima(loop.format, g, half);
  GG_EACH_ROW sums[r] = gg_madd(mm_load(x + r * stride + words, 0), minima, sums[r]);
}

/// Asks for bytes that follow each other.
CP_INLINE void gg_prefetch(const uint8_t *p, long bytes) {
  _Pragma("clang loop unroll(full)") for (long i = 0; i < bytes; i += 64) mm_prefetch(p + i);
}

/// Adds the products of `count` elements from the block at `p` on to the sums of each row, sixteen floats at `sums`,
/// which hold nothing yet if `is_first`. `ahead` is the distance to what will be read later.
CP_INLINE void gg_add_strip(
    gg_loop loop, const uint8_t *p, const uint8_t *apart, long count, long ahead, const float *x, bool is_first,
    float *sums) {
  const long rows = loop.rows, bytes = gg_bytes(loop.format);
  const long step = gg_group_stride(loop.format, loop.is_pairs) * rows;
  f32x16 total[8];
  GG_EACH_ROW total[r] = is_first ? (f32x16)0.0f : mm_load(sums + 16 * r, 0);
  // The prefetches below are as far apart as cache lines are long, so they leave out the line in which a strip ends.
  if (rows > 1) mm_prefetch(p + ahead + count / (16 * gg_parts(loop.format)) * bytes - 1);
  if (gg_parts(loop.format) == 16) {
    for (; count > 0; count -= 256, p += bytes, x += 2 * step) {
      gg_prefetch(p + ahead, bytes);
      gg_group g = {p, p, p, p};
      gg_add_group(loop, g, apart, 0, x, total);
      gg_add_group(loop, g, apart, 1, x + step, total);
    }
  } else {
    for (; count > 0; count -= 128, p += 4 * bytes, x += step) {
      gg_prefetch(p + ahead, 4 * bytes);
      gg_group g = {p, p + bytes, p + 2 * bytes, p + 3 * bytes};
      if (__builtin_expect(count < 128, 0)) {
        // The last block stands for those after it, where x is zero.
        g.d = p + (count / 32 - 1) * bytes;
        if (count < 96) g.c = g.d;
        if (count < 64) g.b = g.d;
      }
      gg_add_group(loop, g, apart, 0, x, total);
      if (gg_is_apart(loop.format)) apart += 4;
    }
  }
  GG_EACH_ROW memcpy(sums + 16 * r, &total[r], 64);
}
