#pragma once
#include "simd_blocks.h"

// A few rows of x against a matrix in a block format, without a scale for every code. A group is 128 elements of a
// row: four blocks of 32, or half a block of 256. Its codes are two vectors of 64 bytes, each quarter of which has one
// scale, so that a vector of scales multiplies the sums of 64 products, or of 128 where both vectors have the same
// scales. x is brought into the order of the bytes before: simd_block_words.h.

typedef float gg_f32x4 __attribute__((ext_vector_type(4)));
typedef uint8_t gg_u8x64 __attribute__((ext_vector_type(64)));
typedef uint32_t gg_u32x4 __attribute__((ext_vector_type(4)));
typedef uint32_t gg_u32x8 __attribute__((ext_vector_type(8)));

/// The blocks of a group; of a block of 256, which is all four then, `half` is 0 or 1.
typedef struct {
  const uint8_t *a, *b, *c, *d;
} gg_group;

/// Whether both vectors of codes have the same scales.
CP_INLINE bool gg_is_single(int32_t format) {
  return format != gg_q8_0 && format != gg_q2_K && format != gg_q3_K && format != gg_q6_K;
}
/// What codes are less than the bytes of `gg_group_bytes`.
CP_INLINE float gg_offset(int32_t format) {
  switch (format) {
  case gg_q8_0: case gg_iq4_nl: return 128;
  case gg_mxfp4: case gg_mxfp4_apart: return 12;
  default: return gg_middle(format);
  }
}

CP_INLINE uint32_t gg_word(const uint8_t *p) {
  uint32_t w;
  memcpy(&w, p, 4);
  return w;
}
CP_INLINE uint16_t gg_short(const uint8_t *p) {
  uint16_t w;
  memcpy(&w, p, 2);
  return w;
}
/// Sixteen bytes of each block.
CP_INLINE u32x16 gg_quarters(gg_group g, long offset) {
  gg_u32x4 words[4];
  memcpy(&words[0], g.a + offset, 16);
  memcpy(&words[1], g.b + offset, 16);
  memcpy(&words[2], g.c + offset, 16);
  memcpy(&words[3], g.d + offset, 16);
  gg_u32x8 low = __builtin_shufflevector(words[0], words[1], 0, 1, 2, 3, 4, 5, 6, 7);
  gg_u32x8 high = __builtin_shufflevector(words[2], words[3], 0, 1, 2, 3, 4, 5, 6, 7);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
CP_INLINE u32x16 gg_join(const uint8_t *low, const uint8_t *high) {
  gg_u32x8 a, b;
  memcpy(&a, low, 32);
  memcpy(&b, high, 32);
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
/// Counts for the words of each quarter.
CP_INLINE u32x16 gg_counts(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return (u32x16){a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d};
}
/// Sixteen where the bit of an element is set, for the first or second sixteen elements of four blocks.
CP_INLINE u32x16 gg_fifths(gg_group g, long offset, long j) {
  gg_u32x4 w = {gg_word(g.a + offset), gg_word(g.b + offset), gg_word(g.c + offset), gg_word(g.d + offset)};
  gg_u8x64 v = (gg_u8x64)__builtin_shufflevector(w, w, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
#define GG_BITS(n) n, n, n, n, n, n, n, n, n + 1, n + 1, n + 1, n + 1, n + 1, n + 1, n + 1, n + 1
  v = j == 0 ? __builtin_shufflevector(v, v, GG_BITS(0), GG_BITS(16), GG_BITS(32), GG_BITS(48))
             : __builtin_shufflevector(v, v, GG_BITS(2), GG_BITS(18), GG_BITS(34), GG_BITS(50));
#define GG_ONES 1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128
  gg_u8x64 one = {GG_ONES, GG_ONES, GG_ONES, GG_ONES};
  return (u32x16)((gg_u8x64)((v & one) == one) & 16);
}
/// table[byte] for bytes below 16
CP_INLINE u32x16 gg_lookup64(gg_u8x16 table, u32x16 bytes) {
#if defined(__AVX512BW__)
  return (u32x16)_mm512_shuffle_epi8(_mm512_broadcast_i32x4((__m128i)table), (__m512i)bytes);
#elif defined(__AVX2__)
  __m256i t = _mm256_broadcastsi128_si256((__m128i)table);
  gg_u32x8 low = (gg_u32x8)_mm256_shuffle_epi8(
      t, (__m256i)__builtin_shufflevector(bytes, bytes, 0, 1, 2, 3, 4, 5, 6, 7));
  gg_u32x8 high = (gg_u32x8)_mm256_shuffle_epi8(
      t, (__m256i)__builtin_shufflevector(bytes, bytes, 8, 9, 10, 11, 12, 13, 14, 15));
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  gg_u8x64 v = (gg_u8x64)bytes;
  for (int i = 0; i < 64; i++) v[i] = table[v[i]];
  return (u32x16)v;
#endif
}

/// 64 codes of a group, more by `gg_offset`; `j` is 0 or 1. Unless they are `clean`, the upper bits that a look-up
/// passes over are any.
CP_INLINE u32x16 gg_group_bytes(int32_t format, gg_group g, long half, long j, bool clean) {
  const uint32_t nibbles = 0x0f0f0f0fu;
  switch (format) {
  case gg_q5_0:
  case gg_q5_1: {
    u32x16 words = gg_quarters(g, format == gg_q5_0 ? 6 : 8);
    return ((j == 0 ? words : words >> 4) & nibbles) | gg_fifths(g, format == gg_q5_0 ? 2 : 4, j);
  }
  case gg_q8_0: return (j == 0 ? gg_join(g.a + 2, g.b + 2) : gg_join(g.c + 2, g.d + 2)) ^ 0x80808080u;
  case gg_q2_K: {
    u32x16 words = gg_join(g.a + 16 + 32 * half, g.a + 16 + 32 * half);
    words >>= j == 0 ? gg_counts(0, 0, 2, 2) : gg_counts(4, 4, 6, 6);
    return clean ? words & 0x03030303u : words;
  }
  case gg_q3_K: {
    u32x16 words = gg_join(g.a + 32 + 32 * half, g.a + 32 + 32 * half), high = gg_join(g.a, g.a);
    words >>= j == 0 ? gg_counts(0, 0, 2, 2) : gg_counts(4, 4, 6, 6);
    high = half == 0 ? j == 0 ? high << gg_counts(2, 2, 1, 1) : high >> gg_counts(0, 0, 1, 1)
                     : high >> (j == 0 ? gg_counts(2, 2, 3, 3) : gg_counts(4, 4, 5, 5));
    words = (words & 0x03030303u) | (high & ~0x03030303u);
    return clean ? words & 0x07070707u : words;
  }
  case gg_q4_K:
  case gg_q5_K: {
    const uint8_t *p = g.a + (format == gg_q4_K ? 16 : 48) + 64 * half + 16 * j;
    gg_group codes = {p, p, p + 32, p + 32}, bits = {g.a, g.a, g.a, g.a};
    u32x16 words = gg_quarters(codes, 0) >> gg_counts(0, 4, 0, 4);
    if (format == gg_q4_K) return clean ? words & nibbles : words;
    u32x16 high = gg_quarters(bits, 16 + 16 * j);
    high = half == 0 ? high << gg_counts(4, 3, 2, 1) : high >> gg_counts(0, 1, 2, 3);
    words = (words & nibbles) | (high & ~nibbles);
    return clean ? words & 0x1f1f1f1fu : words;
  }
  case gg_q6_K: {
    const uint8_t *p = g.a + 64 * half, *q = g.a + 128 + 32 * half;
    u32x16 words = gg_join(p, p + 32), high = gg_join(q, q);
    words = j == 0 ? words : words >> 4;
    high = j == 0 ? high << gg_counts(4, 4, 2, 2) : high >> gg_counts(0, 0, 2, 2);
    words = (words & nibbles) | (high & ~nibbles);
    return clean ? words & 0x3f3f3f3fu : words;
  }
  default: {
    u32x16 words = gg_quarters(g, format == gg_q4_1 ? 4 : format == gg_mxfp4 ? 1 : format == gg_mxfp4_apart ? 0 : 2);
    if (j) words >>= 4;
    if (!clean) return words;
    words &= nibbles;
    if (format == gg_iq4_nl)
      return gg_lookup64((gg_u8x16){1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241}, words);
    if (format == gg_mxfp4 || format == gg_mxfp4_apart)
      return gg_lookup64((gg_u8x16){12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0}, words);
    return words;
  }
  }
}

/// Whole numbers below 2^31.
CP_INLINE f32x16 gg_floats(u32x16 v) { return __builtin_convertvector((mm_i32x16)v, f32x16); }
/// What the floats of byte `t` of each word are multiplied by: bytes stay where they are, if that is below 2^31.
CP_INLINE float gg_byte_factor(int32_t format, long t) {
  const float factors[4] = {1, 0x1p8f, 0x1p16f, 0x1p24f};
  return t == 3 && (format == gg_q8_0 || format == gg_iq4_nl) ? 1 : factors[t];
}
/// Byte `t` of each word of `gg_group_bytes`, times `gg_byte_factor`.
CP_INLINE f32x16 gg_group_floats(int32_t format, u32x16 bytes, long t) {
  return gg_floats(gg_byte_factor(format, t) == 1 ? bytes >> (8 * t) & 255u : bytes & (u32x16)(255u << (8 * t)));
}

/// Four bytes, each in the lanes of a quarter.
CP_INLINE u32x16 gg_spread(uint32_t bytes) {
  gg_u8x16 b = (gg_u8x16)(gg_u32x4){bytes, 0, 0, 0};
  b = __builtin_shufflevector(b, b, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  return __builtin_convertvector(b, u32x16);
}

/// The f16 of four blocks.
CP_INLINE gg_f32x4 gg_four_halves(gg_group g, long offset) {
#if defined(__F16C__) || defined(__AVX512F__)
  // Brought together by integer units, which have little else to do; the compiler would take vector ones.
  uint64_t halves = gg_short(g.a + offset) | (uint64_t)gg_short(g.b + offset) << 16 |
                    (uint64_t)gg_short(g.c + offset) << 32 | (uint64_t)gg_short(g.d + offset) << 48;
  __asm__("" : "+r"(halves));
  return (gg_f32x4)_mm_cvtph_ps(_mm_cvtsi64_si128((long long)halves));
#else
  return (gg_f32x4){gg_half(g.a + offset), gg_half(g.b + offset), gg_half(g.c + offset), gg_half(g.d + offset)};
#endif
}
/// The same, each in the lanes of a quarter.
CP_INLINE f32x16 gg_halves_of_four(gg_group g, long offset) {
  gg_f32x4 v = gg_four_halves(g, offset);
  return __builtin_shufflevector(v, v, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
}
/// Half of two to the power of each byte less 127.
CP_INLINE f32x16 gg_half_powers(uint32_t exponents) {
  u32x16 e = gg_spread(exponents);
  u32x16 small = (u32x16)(0x00200000u) << (e & 1u);
  return mm_select((mm_i32x16)e < 2, (f32x16)small, (f32x16)((e - 1) << 23));
}

/// The scales of 64 codes; `apart` are those of the blocks from the first on, where they lie elsewhere.
CP_INLINE f32x16 gg_group_scales(int32_t format, gg_group g, const uint8_t *apart, long half, long j) {
  const uint8_t *p = g.a;
  switch (format) {
  case gg_q8_0: {
    gg_f32x4 v = gg_four_halves(g, 0);
    return j == 0 ? __builtin_shufflevector(v, v, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
                  : __builtin_shufflevector(v, v, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  }
  case gg_q2_K: return gg_floats(gg_spread(gg_word(p + 8 * half + 4 * j) & 0x0f0f0f0fu)) * gg_half(p + 80);
  case gg_q3_K: {
    uint32_t low = gg_word(p + 96 + 4 * j) >> (4 * half) & 0x0f0f0f0fu;
    uint32_t high = gg_word(p + 104) >> (4 * half + 2 * j) & 0x03030303u;
    return (gg_floats(gg_spread(low | high << 4)) - 32) * gg_half(p + 108);
  }
  case gg_q4_K:
  case gg_q5_K: {
    uint32_t six = gg_word(p + 4), four = gg_word(p + 12);
    six = half == 0 ? six & 0x3f3f3f3fu : (four & 0x0f0f0f0fu) | (six >> 6 & 0x03030303u) << 4;
    return gg_floats(gg_spread(six)) * gg_half(p);
  }
  case gg_q6_K: {
    gg_u8x16 b = (gg_u8x16)(gg_u32x4){gg_word(p + 192 + 8 * half + 4 * j), 0, 0, 0};
    b = __builtin_shufflevector(b, b, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return gg_signed((gg_i8x16)b) * gg_half(p + 208);
  }
  case gg_mxfp4: return gg_half_powers(g.a[0] | g.b[0] << 8 | g.c[0] << 16 | (uint32_t)g.d[0] << 24);
  case gg_mxfp4_apart: {
    uint32_t last = apart[(g.d - p) >> 4];
    return gg_half_powers(apart[0] | apart[(g.b - p) >> 4] << 8 | apart[(g.c - p) >> 4] << 16 | last << 24);
  }
  default: return gg_halves_of_four(g, 0);
  }
}

/// What every element of a block or part has more, in lanes for eight elements that follow each other.
CP_INLINE f32x16 gg_group_minima(int32_t format, gg_group g, long half) {
  const uint8_t *p = g.a;
  switch (format) {
  case gg_q2_K: {
    gg_u8x16 b = {0};
    memcpy(&b, p + 8 * half, 8);
    b = __builtin_shufflevector(b, b, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7) >> 4;
    return gg_unsigned(b) * -gg_half(p + 82);
  }
  case gg_q4_K:
  case gg_q5_K: {
    uint32_t six = gg_word(p + 8), four = gg_word(p + 12);
    six = half == 0 ? six & 0x3f3f3f3fu : (four >> 4 & 0x0f0f0f0fu) | (six >> 6 & 0x03030303u) << 4;
    return gg_floats(gg_spread(six)) * -gg_half(p + 2);
  }
  default: return gg_halves_of_four(g, 2);
  }
}
