#pragma once
#include "simd_blocks.h"

// One row of x against codes of four bits, without bringing each code into a byte of its own: sixteen words of 32 bits
// hold 128 codes, and what lies between two nibbles of a word is a whole number as it is, only times a power of 16. x is
// multiplied by the inverse power before, exactly, and put into the order of the nibbles: `gg_arrange`.

/// Formats whose codes are read so. The others need a table, or bits from elsewhere.
CP_INLINE bool gg_is_nibbles(int32_t format) { return format == gg_q4_0 || format == gg_q4_1 || format == gg_q4_K; }

typedef float gg_f32x4 __attribute__((ext_vector_type(4)));
typedef uint32_t gg_u32x4 __attribute__((ext_vector_type(4)));
typedef uint32_t gg_u32x8 __attribute__((ext_vector_type(8)));

/// Sixteen neighbours of x whose codes are the nibbles `half` of the bytes of four words, to lanes `lane...` of the eight
/// vectors at `to`.
CP_INLINE void gg_arrange_part(const float *x, long half, long lane, float *to) {
  f32x16 v;
  memcpy(&v, x, 64);
  v = __builtin_shufflevector(v, v, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const float small = half ? 0x1p-4f : 1.0f, odd = 0x1p-8f * small;
  v *= (f32x16){small, small, small, small, odd, odd, odd, odd, small, small, small, small, odd, odd, odd, odd};
  for (long byte = 0; byte < 4; byte++) memcpy(to + (2 * byte + half) * 16 + lane, (const float *)&v + 4 * byte, 16);
}

/// The 128 elements at x in the order of the nibbles: eight vectors for the codes at bits 0, 4, … 28 of each word.
CP_INLINE void gg_arrange(int32_t format, const float *x, float *to) {
  for (long part = 0; part < 8; part++) {
    // Blocks of 32 are four words; of a long block 64 elements are eight.
    long half = format == gg_q4_K ? part / 2 % 2 : part % 2;
    long lane = format == gg_q4_K ? part / 4 * 8 + part % 2 * 4 : part / 2 * 4;
    gg_arrange_part(x + 16 * part, half, lane, to);
  }
}

/// Four words of each of four blocks.
CP_INLINE u32x16 gg_words_of_four(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d) {
  gg_u32x4 words[4];
  memcpy(&words[0], a, 16);
  memcpy(&words[1], b, 16);
  memcpy(&words[2], c, 16);
  memcpy(&words[3], d, 16);
  gg_u32x8 low = __builtin_shufflevector(words[0], words[1], 0, 1, 2, 3, 4, 5, 6, 7);
  gg_u32x8 high = __builtin_shufflevector(words[2], words[3], 0, 1, 2, 3, 4, 5, 6, 7);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/// The f16 of four blocks, each in four lanes.
CP_INLINE f32x16 gg_halves_of_four(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d) {
#if defined(__F16C__) || defined(__AVX512F__)
  uint16_t h[4];
  memcpy(h, a, 2);
  memcpy(h + 1, b, 2);
  memcpy(h + 2, c, 2);
  memcpy(h + 3, d, 2);
  gg_f32x4 v = (gg_f32x4)_mm_cvtph_ps(_mm_setr_epi16(h[0], h[1], h[2], h[3], 0, 0, 0, 0));
#else
  gg_f32x4 v = {gg_half(a), gg_half(b), gg_half(c), gg_half(d)};
#endif
  return __builtin_shufflevector(v, v, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
}

/// The nibble at bit `shift` of each word, times 2^shift.
CP_INLINE f32x16 gg_nibble(u32x16 words, long shift) {
  return __builtin_convertvector((mm_i32x16)(words & (u32x16)(15u << shift)), f32x16);
}

#if defined(__AVX512BF16__)
// The same for products of bfloat16: a nibble among the lower bits of 0x4300 is 128 more than its code, in one operation
// and for two codes at once. What 128 times x adds is known before.

/// 128 more than the nibbles at bits `shift` and `shift` + 16 of each word, as bfloat16.
CP_INLINE u32x16 gg_nibble_pairs(u32x16 words, long shift) {
  return ((words >> (uint32_t)shift) & 0x000f000fu) | 0x43004300u;
}

/// The sum of both values of each word.
CP_INLINE f32x16 gg_pair_sums(u32x16 words) { return (f32x16)(words << 16) + (f32x16)(words & 0xffff0000u); }

/// The 128 elements of 64 words at x in the order of `gg_nibble_pairs`: vectors for the codes at bits 0, 4, 8, 12.
CP_INLINE void gg_arrange_pairs(int32_t format, const float *x, float *to) {
  for (long part = 0; part < 4; part++) {
    gg_u32x8 first, second;
    memcpy(&first, x + 16 * part, 32);
    memcpy(&second, x + 16 * part + 8, 32);
    gg_u32x8 even = __builtin_shufflevector(first, second, 0, 2, 4, 6, 8, 10, 12, 14);
    gg_u32x8 odd = __builtin_shufflevector(first, second, 1, 3, 5, 7, 9, 11, 13, 15);
    gg_u32x8 lower = (even & 0xffffu) | odd << 16, upper = even >> 16 | (odd & 0xffff0000u);
    if (format == gg_q4_K) {  // 32 elements have the same halves of 32 bytes
      float *at = to + part % 2 * 16 + part / 2 * 8;
      memcpy(at, &lower, 32);
      memcpy(at + 32, &upper, 32);
    } else {  // sixteen have those of a block
      memcpy(to + 4 * part, &lower, 16);
      memcpy(to + 16 + 4 * part, (const float *)&lower + 4, 16);
      memcpy(to + 32 + 4 * part, &upper, 16);
      memcpy(to + 48 + 4 * part, (const float *)&upper + 4, 16);
    }
  }
}
#endif
