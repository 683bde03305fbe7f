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
#define GG_UNROLL _Pragma("clang loop unroll(full)")
#define GG_EACH_ROW GG_UNROLL for (long r = 0; r < rows; r++)

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
    GG_UNROLL for (long v = 2 * j; v < 2 * j + 2; v++) {
      u32x16 words = gg_group_words(loop.format, g, half, v);
      GG_EACH_ROW products[r] = mm_dot_pairs(products[r], words, (u32x16)mm_load(x + r * stride + 16 * v, 0));
    }
    return;
  }
#endif
  u32x16 bytes = gg_group_bytes(loop.format, g, half, j, true);
  GG_UNROLL for (long t = 0; t < 4; t++) {
    f32x16 codes = gg_group_floats(loop.format, bytes, t);
    GG_EACH_ROW products[r] = gg_madd(codes, mm_load(x + r * stride + (4 * j + t) * 16, 0), products[r]);
  }
}

/// What one row of x, floats, multiplies: the codes of a group that have the scales of vector `j`; x is at the group.
typedef struct {
  gg_group g;
  const uint8_t *apart;
  long half, j;
  const float *x;
} gg_piece;

/// The products of two pieces. They go side by side: each step of a sum waits for the one before.
CP_INLINE void gg_multiply_two(int32_t format, const gg_piece *pieces, f32x16 *products) {
  const long vectors = gg_is_single(format) ? 2 : 1;
  u32x16 bytes[2][2];
  GG_UNROLL for (long i = 0; i < 2; i++) {
    const gg_piece p = pieces[i];
    products[i] = gg_has_minima(format) ? (f32x16)0.0f : mm_load(p.x + 128 + 16 * p.j, 0);
    GG_UNROLL for (long v = 0; v < vectors; v++) bytes[i][v] = gg_group_bytes(format, p.g, p.half, p.j + v, true);
  }
  GG_UNROLL for (long step = 0; step < 4 * vectors; step++) {
    GG_UNROLL for (long i = 0; i < 2; i++) {
      f32x16 codes = gg_group_floats(format, bytes[i][step / 4], step % 4);
      products[i] = gg_madd(codes, mm_load(pieces[i].x + (4 * pieces[i].j + step) * 16, 0), products[i]);
    }
    // The compiler would put one sum behind the other.
    __asm__ volatile("" ::: "memory");
  }
}
/// sum + the products of a piece, and with the last piece of a group what minima give.
CP_INLINE f32x16 gg_scaled(int32_t format, gg_piece p, f32x16 products, f32x16 sum) {
  sum = gg_madd(products, gg_group_scales(format, p.g, p.apart, p.half, p.j), sum);
  if (!gg_has_minima(format) || (p.j == 0 && !gg_is_single(format))) return sum;
  return gg_madd(mm_load(p.x + 128, 0), gg_group_minima(format, p.g, p.half), sum);
}
/// Adds the products of two pieces of a row of the matrix, the earlier one first.
CP_INLINE void gg_add_two(int32_t format, gg_piece first, gg_piece second, f32x16 *sum) {
  const gg_piece pieces[2] = {first, second};
  f32x16 products[2];
  gg_multiply_two(format, pieces, products);
  *sum = gg_scaled(format, second, products[1], gg_scaled(format, first, products[0], *sum));
}

/// Adds the products of a group to the sums of each row.
CP_INLINE void gg_add_group(
    gg_loop loop, gg_group g, const uint8_t *apart, long half, const float *x, f32x16 *sums) {
  const long rows = loop.rows, stride = gg_group_stride(loop.format, loop.is_pairs), words = loop.is_pairs ? 64 : 128;
  const bool has_minima = gg_has_minima(loop.format), is_single = gg_is_single(loop.format);
  if (rows == 1 && !loop.is_pairs && loop.format == gg_q8_0) {
    const gg_piece first = {g, apart, half, 0, x}, second = {g, apart, half, 1, x};
    gg_add_two(loop.format, first, second, sums);
    return;
  }
  f32x16 products[8], scales = gg_group_scales(loop.format, g, apart, half, 0);
  GG_UNROLL for (long j = 0; j < 2; j++) {
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
  GG_UNROLL for (long i = 0; i < bytes; i += 64) mm_prefetch(p + i);
}

/// The blocks of a group of blocks of 32 from `p` on, of which `count` elements are left in the row. The last block
/// stands for those after it, where x is zero.
CP_INLINE gg_group gg_group_at(int32_t format, const uint8_t *p, long count) {
  const long bytes = gg_bytes(format);
  gg_group g = {p, p + bytes, p + 2 * bytes, p + 3 * bytes};
  if (__builtin_expect(count < 128, 0)) {
    g.d = p + (count / 32 - 1) * bytes;
    if (count < 96) g.c = g.d;
    if (count < 64) g.b = g.d;
  }
  return g;
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
      gg_add_group(loop, gg_group_at(loop.format, p, count), apart, 0, x, total);
      if (gg_is_apart(loop.format)) apart += 4;
    }
  }
  GG_EACH_ROW memcpy(sums + 16 * r, &total[r], 64);
}

/// The products of one row of x, floats, with two rows of a matrix of `count` columns that begin at `p` and `q`;
/// sixteen sums of each go to `sums`. For formats that are single.
CP_INLINE void gg_add_two_rows(
    int32_t format, const uint8_t *p, const uint8_t *q, const uint8_t *p_apart, const uint8_t *q_apart, long count,
    long ahead, const float *x, float *sums) {
  const long bytes = gg_bytes(format), stride = gg_group_stride(format, false), apart = gg_is_apart(format) ? 4 : 0;
  const bool is_large = gg_parts(format) == 16;
  const uint8_t *rows[2] = {p, q}, *scales[2] = {p_apart, q_apart};
  f32x16 total[2], products[2];
  _Pragma("clang loop unroll(disable)") for (long i = 0; i < 2; i++) {
    const uint8_t *a = rows[i], *s = scales[i];
    const float *from = x;
    f32x16 sum = 0.0f;
    for (long left = count; left >= 256; left -= 256, from += 2 * stride, s += 2 * apart) {
      const uint8_t *b = is_large ? a : a + 4 * bytes;
      gg_prefetch(a + ahead, is_large ? bytes : 8 * bytes);
      const gg_group g = is_large ? (gg_group){a, a, a, a} : gg_group_at(format, a, 128);
      const gg_piece first = {g, s, 0, 0, from};
      const gg_piece second = {is_large ? g : gg_group_at(format, b, 128), s + apart, is_large, 0, from + stride};
      gg_add_two(format, first, second, &sum);
      a = b + (is_large ? bytes : 4 * bytes);
    }
    total[i] = sum;
    rows[i] = a;
    scales[i] = s;
  }
  // What is left of both rows goes side by side.
  x += count / 256 * 2 * stride;
  for (long left = is_large ? 0 : count % 256; left > 0; left -= 128, x += stride) {
    gg_piece pieces[2];
    GG_UNROLL for (long i = 0; i < 2; i++) {
      gg_prefetch(rows[i] + ahead, 4 * bytes);
      pieces[i] = (gg_piece){gg_group_at(format, rows[i], left), scales[i], 0, 0, x};
      rows[i] += 4 * bytes;
      scales[i] += apart;
    }
    if (left <= 64) {
      gg_multiply_two(format, pieces, products);
      // Only the lower lanes have codes; the compiler leaves the others out.
      GG_UNROLL for (long i = 0; i < 2; i++)
        total[i] = __builtin_shufflevector(
            gg_scaled(format, pieces[i], products[i], total[i]), total[i], 0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28,
            29, 30, 31);
      break;
    }
    gg_multiply_two(format, pieces, products);
    GG_UNROLL for (long i = 0; i < 2; i++) total[i] = gg_scaled(format, pieces[i], products[i], total[i]);
  }
  memcpy(sums, total, 128);
}
