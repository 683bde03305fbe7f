#pragma once
#include "simd_blocks.h"

// Packing block formats into panels: 32 elements, which are two parts of a block, at a time. `mode` is that of the
// product: 0 floats, 1 pairs of bfloat16, 2 floats rounded to bfloat16. For pairs, formats of few codes look finished
// values up: all that a code can stand for is scaled and rounded in fewer operations than the codes of a part.

/// Floats of what is known of a block before its codes are read: scales, minima, and 128 words of tables.
CP_INLINE long gg_prepared_count(void) { return 112; }
/// Where the tables lie: on cache lines, since a vector that was stored across two is slow to load. Those of Q2_K stay
/// in registers.
CP_INLINE float *gg_tables(int32_t format, const float *s) {
  return format == gg_q2_K ? (float *)s + 32 : (float *)(((uintptr_t)(s + 32) + 63) & ~(uintptr_t)63);
}

CP_INLINE f32x16 gg_get(const float *p) {
  f32x16 v;
  memcpy(&v, p, 64);
  return v;
}
/// The values of two parts.
CP_INLINE f32x16 gg_first_values(int32_t format, const uint8_t *p, long pair, const float *s) {
  return gg_values(format, gg_codes(format, p, 2 * pair), s, 2 * pair);
}
CP_INLINE f32x16 gg_second_values(int32_t format, const uint8_t *p, long pair, const float *s) {
  return gg_values(format, gg_codes(format, p, 2 * pair + 1), s, 2 * pair + 1);
}

#if defined(__AVX512BF16__)
typedef uint16_t gg_u16x32 __attribute__((ext_vector_type(32)));

CP_INLINE void gg_put_words(float *p, f32x16 first, f32x16 second) { gg_put(p, (f32x16)mm_row_words(first, second)); }

/// After the scales the words of all codes of all parts: of Q2_K by code and part; of Q3_K, for the halves of a block
/// that have some of `count` pairs from `first` on, by code and part of a half.
CP_INLINE void gg_put_tables(int32_t format, float *s, long first, long count) {
#pragma clang fp contract(fast)
  const f32x16 scale = gg_get(s);
  float *tables = gg_tables(format, s);
  if (format == gg_q2_K) {
    const f32x16 minimum = gg_get(s + 16);
    gg_put_words(tables, scale * 0 - minimum, scale - minimum);
    gg_put_words(tables + 16, scale * 2 - minimum, scale * 3 - minimum);
  } else if (format == gg_q3_K) {
    const f32x16 code = {-4, -4, -4, -4, -4, -4, -4, -4, -3, -3, -3, -3, -3, -3, -3, -3};
    if (first < 4) {
      f32x16 v = __builtin_shufflevector(scale, scale, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
      gg_put_words(tables, v * code, v * (code + 2));
      gg_put_words(tables + 16, v * (code + 4), v * (code + 6));
    }
    if (first + count > 4) {
      f32x16 v = __builtin_shufflevector(scale, scale, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
      gg_put_words(tables + 32, v * code, v * (code + 2));
      gg_put_words(tables + 48, v * (code + 4), v * (code + 6));
    }
  }
}
/// The numbers of two parts, sixteen times each.
CP_INLINE gg_u8x32 gg_part_numbers(long pair) {
  gg_u8x32 second = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  return second | (gg_u8x32)(uint8_t)(2 * pair);
}
/// The words for 32 indices in a table of 64.
CP_INLINE u32x16 gg_words_of(const float *table, gg_u8x32 index) {
  return (u32x16)_mm512_permutex2var_epi16((__m512i)gg_get(table), _mm512_cvtepu8_epi16((__m256i)index),
                                           (__m512i)gg_get(table + 16));
}
/// 32 elements that follow each other, as words of bfloat16.
CP_INLINE u32x16 gg_pair_words(int32_t format, const uint8_t *p, long pair, const float *s) {
  const gg_i8x16 whole = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  switch (format) {
  case gg_q8_0:
  case gg_q6_K:
    return mm_row_words(gg_first_values(format, p, pair, s), gg_second_values(format, p, pair, s));
  case gg_q2_K: return gg_words_of(gg_tables(format, s), gg_up(gg_bits(format, p, pair), 4) | gg_part_numbers(pair));
  case gg_q3_K:
    return gg_words_of(gg_tables(format, s) + pair / 4 * 32,
                       gg_up(gg_bits(format, p, pair), 3) | gg_part_numbers(pair % 4));
  default: {
    gg_i8x16 codes = gg_is_looked_up(format) ? gg_entries(format) : whole - gg_middle(format);
    f32x16 low = gg_values(format, gg_signed(codes), s, 2 * pair), high = low;
    if (format == gg_q5_0 || format == gg_q5_1 || format == gg_q5_K)
      high = gg_values(format, gg_signed(codes + 16), s, 2 * pair);
    return mm_lookup_low(mm_row_words(low, high), (u32x16)_mm512_cvtepu8_epi16((__m256i)gg_bits(format, p, pair)));
  }
  }
}
/// Whether the bits of two rows are brought side by side before they are looked up, which takes half the look-ups:
/// those of blocks of 32 that keep them in the halves of sixteen bytes.
CP_INLINE bool gg_is_zipped(int32_t format) {
  return gg_parts(format) == 2 && format != gg_q8_0 && !gg_is_apart(format);
}
/// The words of codes 0 to 15 of two rows, or of codes 0 to 31 of one.
CP_INLINE __m512i gg_two_tables(int32_t format, const float *s, const float *t, int8_t step) {
  const gg_i8x16 whole = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  gg_i8x16 codes = gg_is_looked_up(format) ? gg_entries(format) : whole - gg_middle(format);
  f32x16 first = gg_values(format, gg_signed(codes), s, 0), second = gg_values(format, gg_signed(codes + step), t, 0);
  return (__m512i)mm_row_words(first, second);
}
/// Two parts of two such rows as `gg_pack_across` writes them.
CP_INLINE void gg_pack_zipped(int32_t format, const uint8_t *p, const uint8_t *q, const float *s, const float *t,
                              float *low, float *high) {
  const long first = gg_bytes(format) - 16;
  gg_u8x32 bytes = __builtin_shufflevector(gg_load(p + first), gg_load(q + first), 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
                                           21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                           31);
  const bool has_fifth = format == gg_q5_0 || format == gg_q5_1;
  const __m512i four = _mm512_set1_epi32(0x000f000f), second = _mm512_set1_epi32(has_fifth ? 0x00200000 : 0x00100000);
  __m512i lower = _mm512_cvtepu8_epi16((__m256i)bytes), upper = _mm512_srli_epi16(lower, 4);
  // (index & four) | second
  lower = _mm512_ternarylogic_epi32(lower, four, second, 0xea);
  upper = _mm512_ternarylogic_epi32(upper, four, second, 0xea);
  if (!has_fifth) {
    const __m512i table = gg_two_tables(format, s, t, 0);
    gg_put(low, (f32x16)_mm512_permutexvar_epi16(lower, table));
    gg_put(high, (f32x16)_mm512_permutexvar_epi16(upper, table));
    return;
  }
  uint32_t a, b;
  memcpy(&a, p + first - 4, 4);
  memcpy(&b, q + first - 4, 4);
  const uint64_t fifth = _pdep_u64(a, 0x5555555555555555) | _pdep_u64(b, 0xaaaaaaaaaaaaaaaa);
  const __m512i sixteen = _mm512_set1_epi16(16);
  lower = _mm512_mask_add_epi16(lower, (__mmask32)fifth, lower, sixteen);
  upper = _mm512_mask_add_epi16(upper, (__mmask32)(fifth >> 32), upper, sixteen);
  const __m512i x = gg_two_tables(format, s, s, 16), y = gg_two_tables(format, t, t, 16);
  gg_put(low, (f32x16)_mm512_permutex2var_epi16(x, lower, y));
  gg_put(high, (f32x16)_mm512_permutex2var_epi16(x, upper, y));
}
#else
CP_INLINE void gg_put_tables(int32_t format, float *s, long first, long count) {}
#endif

/// Thirty-two steps of sixteen lanes, given the codes of two parts of each lane's block, four in a word, and the scales
/// and minima of the lanes for both parts; rounded to bfloat16 if wanted.
CP_INLINE void gg_pack_lanes(int32_t format, const void *codes, const float *scales, const float *minima, bool rounds,
                             float *to, long stride) {
#pragma clang fp contract(fast)
  MM_UNROLLED(8) {
    const int part = gg_parts(format) == 2 ? 0 : i / 4 * 16;
    const f32x16 scale = gg_get(scales + part);
    const f32x16 minimum = gg_has_minima(format) ? gg_get(minima + part) : scale;
    mm_i32x16 four;
    memcpy(&four, (const uint8_t *)codes + i * 64, 64);
#define GG_STEP(index)                                                                                   \
  {                                                                                                      \
    f32x16 v = __builtin_convertvector(four << (24 - 8 * index) >> 24, f32x16);                          \
    /* As gg_values has it. */                                                                           \
    if (!gg_has_minima(format)) v = v * scale;                                                           \
    else v = gg_parts(format) == 2 ? v * scale + minimum : v * scale - minimum;                          \
    gg_put(to + (4 * i + index) * stride, rounds ? mm_round_bf16(v) : v);                                \
  }
    GG_STEP(0) GG_STEP(1) GG_STEP(2) GG_STEP(3)
#undef GG_STEP
  }
}

/// Two parts as words that follow each other: 32 floats, or 16 pairs.
CP_INLINE void gg_pack_along(int32_t format, const uint8_t *p, long pair, const float *s, int32_t mode, float *to) {
#if defined(__AVX512BF16__)
  if (mode == 1) return gg_put(to, (f32x16)gg_pair_words(format, p, pair, s));
#endif
  f32x16 first = gg_first_values(format, p, pair, s), second = gg_second_values(format, p, pair, s);
  if (mode == 1) return gg_put(to, (f32x16)mm_row_words(first, second));
  gg_put(to, mode == 0 ? first : mm_round_bf16(first));
  gg_put(to + 16, mode == 0 ? second : mm_round_bf16(second));
}

/// Two parts as lanes: a word of each of the first sixteen to `low`, of the others to `high`, unless that is null. With
/// pairs the second elements are those of the block at `q`, or zero where that is null.
CP_INLINE void gg_pack_across(int32_t format, const uint8_t *p, const uint8_t *q, long pair, const float *s,
                              const float *t, int32_t mode, float *low, float *high) {
  if (mode != 1) {
    f32x16 first = gg_first_values(format, p, pair, s), second = gg_second_values(format, p, pair, s);
    if (low) gg_put(low, mode == 0 ? first : mm_round_bf16(first));
    if (high) gg_put(high, mode == 0 ? second : mm_round_bf16(second));
    return;
  }
#if defined(__AVX512BF16__)
  if (q && gg_is_zipped(format)) return gg_pack_zipped(format, p, q, s, t, low, high);
  gg_u16x32 a = (gg_u16x32)gg_pair_words(format, p, pair, s), b = 0;
  if (q) b = (gg_u16x32)gg_pair_words(format, q, pair, t);
  gg_put(low, (f32x16)__builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9,
                                              41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47));
  gg_put(high, (f32x16)__builtin_shufflevector(a, b, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                                               24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63));
#else
  f32x16 none = 0;
  if (low) {
    f32x16 next = q ? gg_first_values(format, q, pair, t) : none;
    gg_put(low, (f32x16)mm_pair_words(gg_first_values(format, p, pair, s), next));
  }
  if (high) {
    f32x16 next = q ? gg_second_values(format, q, pair, t) : none;
    gg_put(high, (f32x16)mm_pair_words(gg_second_values(format, p, pair, s), next));
  }
#endif
}
