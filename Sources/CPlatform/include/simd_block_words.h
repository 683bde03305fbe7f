#pragma once
#include "simd_block_dots.h"

// Codes of a group as pairs of bfloat16, and x in the order in which they, or the bytes of `gg_group_bytes`, stand.

#if defined(__AVX512BF16__)
/// What an index stands for, of the 32 from `first` on; bits that are no part of a code are passed over.
CP_INLINE u32x16 gg_code_table(int32_t format, long first) {
  const gg_i8x16 whole = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const int8_t offset = (int8_t)gg_offset(format);
  switch (format) {
  case gg_iq4_nl: case gg_mxfp4: case gg_mxfp4_apart: return mm_word_table(gg_signed(gg_entries(format)));
  case gg_q2_K: return mm_word_table(gg_signed(whole & 3));
  case gg_q3_K: return mm_word_table(gg_signed((whole & 7) - offset));
  case gg_q5_0: case gg_q5_1: case gg_q5_K: case gg_q6_K: {
    gg_i8x16 low = whole + (int8_t)first - offset;
    return mm_row_words(gg_signed(low), gg_signed(low + 16));
  }
  default: return mm_word_table(gg_signed(whole - offset));
  }
}
/// The codes of even bytes (v = 0), then of odd ones (1) of the first vector, and of the second (2, 3). Those of Q8_0
/// are in their own order, sixteen of one block beside sixteen of the next.
CP_INLINE u32x16 gg_group_words(int32_t format, gg_group g, long half, long v) {
  if (format == gg_q8_0) {
    const uint8_t *a = (v < 2 ? g.a : g.c) + 2 + v % 2 * 16, *b = (v < 2 ? g.b : g.d) + 2 + v % 2 * 16;
    return mm_row_words(gg_signed((gg_i8x16)gg_load(a)), gg_signed((gg_i8x16)gg_load(b)));
  }
  __m512i index = (__m512i)gg_group_bytes(format, g, half, v / 2, false), table = (__m512i)gg_code_table(format, 0);
  if (v % 2) index = _mm512_srli_epi16(index, 8);
  if (format == gg_q6_K) return (u32x16)_mm512_permutex2var_epi16(table, index, (__m512i)gg_code_table(format, 32));
  return (u32x16)_mm512_permutexvar_epi16(index, table);
}
#endif

/// Words of one row of x in a group: elements, then sixteen or 32 sums.
CP_INLINE long gg_group_stride(int32_t format, bool is_pairs) {
  if (is_pairs) return gg_has_minima(format) ? 80 : 64;
  return gg_has_minima(format) || gg_is_single(format) ? 144 : 160;
}
/// Where sixteen elements begin whose codes are the bytes of quarter `q` of vector `j`; those of MXFP4 whose scales lie
/// apart are every other of 32.
CP_INLINE long gg_run(int32_t format, long j, long q) {
  return format == gg_mxfp4_apart ? 32 * q : gg_is_single(format) ? 32 * q + 16 * j : 64 * j + 16 * q;
}

/// Brings 128 floats of x to `to`. Sums are of eight neighbours for minima, and of lanes for what codes are less than
/// bytes.
CP_INLINE void gg_arrange_floats(int32_t format, const float *x, float *to) {
  for (long j = 0; j < 2; j++) {
    gg_f32x4 sums[4];
    for (long q = 0; q < 4; q++) {
      const float *from = x + gg_run(format, j, q);
      f32x16 v = mm_load(from, 0);
      if (format == gg_mxfp4_apart) v = j == 0 ? mm_even(v, mm_load(from + 16, 0)) : mm_odd(v, mm_load(from + 16, 0));
      v = __builtin_shufflevector(v, v, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      gg_f32x4 bytes[4];
      memcpy(bytes, &v, 64);
      sums[q] = ((bytes[0] + bytes[1]) + (bytes[2] + bytes[3])) * -gg_offset(format);
      for (long t = 0; t < 4; t++) bytes[t] *= 1 / gg_byte_factor(format, t);
      for (long t = 0; t < 4; t++) memcpy(to + (4 * j + t) * 16 + 4 * q, &bytes[t], 16);
    }
    if (gg_has_minima(format)) continue;
    if (j == 1 && gg_is_single(format)) {
      for (long q = 0; q < 4; q++) {
        gg_f32x4 first;
        memcpy(&first, to + 128 + 4 * q, 16);
        sums[q] += first;
      }
    }
    memcpy(to + 128 + (gg_is_single(format) ? 0 : 16 * j), sums, 64);
  }
  if (!gg_has_minima(format)) return;
  for (long i = 0; i < 16; i++) {
    const float *p = x + 8 * i;
    to[128 + i] = ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]));
  }
}

#if defined(__AVX512BF16__)
/// The same of pairs of bfloat16, 64 words.
CP_INLINE void gg_arrange_pairs(int32_t format, const float *x, float *to) {
  for (long j = 0; j < 2; j++) {
    for (long q = 0; q < 4; q++) {
      const float *from = x + gg_run(format, j, q) / 2;
      mm_u16x16 v, w;
      memcpy(&v, from, 32);
      if (format == gg_q8_0) {
        memcpy(to + (2 * j + q % 2) * 16 + q / 2 * 8, &v, 32);
        continue;
      }
      if (format == gg_mxfp4_apart) {
        memcpy(&w, from + 8, 32);
        v = j == 0 ? __builtin_shufflevector(v, w, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
                   : __builtin_shufflevector(v, w, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
      }
      v = __builtin_shufflevector(v, v, 0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
      memcpy(to + 32 * j + 4 * q, &v, 16);
      memcpy(to + 32 * j + 16 + 4 * q, (const char *)&v + 16, 16);
    }
  }
  if (!gg_has_minima(format)) return;
  for (long i = 0; i < 16; i += 2) {
    f32x16 v = mm_load(x + 4 * i, 1);
    const float *p = (const float *)&v;
    for (long e = 0; e < 2; e++, p += 8)
      to[64 + i + e] = ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]));
  }
}
#endif
