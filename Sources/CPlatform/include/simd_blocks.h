#pragma once
#include "simd_lookup.h"

// The block formats of ggml, by their numbers in `enum ggml_type`. Every element is code * scale - minimum, with the
// code a small integer and one scale and minimum for each part of sixteen elements. `format` is a constant of each
// loop, so that one case is left of each switch. `part`, and `pair` of two parts, count from the start of a block.
// gg_mxfp4_apart is no number of ggml: its blocks have codes alone, two neighbours in each byte, and their scales lie
// elsewhere.

typedef int8_t gg_i8x16 __attribute__((ext_vector_type(16)));
typedef mm_u8x16 gg_u8x16;
typedef uint8_t gg_u8x32 __attribute__((ext_vector_type(32)));
typedef int8_t gg_i8x32 __attribute__((ext_vector_type(32)));
typedef mm_u16x16 gg_u16x16;

enum {
  gg_q4_0 = 2, gg_q4_1 = 3, gg_q5_0 = 6, gg_q5_1 = 7, gg_q8_0 = 8, gg_q2_K = 10, gg_q3_K = 11, gg_q4_K = 12,
  gg_q5_K = 13, gg_q6_K = 14, gg_iq4_nl = 20, gg_mxfp4 = 39,
  gg_mxfp4_apart = 139
};

/// Parts of a block.
CP_INLINE long gg_parts(int32_t format) {
  return format >= gg_q2_K && format <= gg_q6_K ? 16 : 2;
}
/// Bytes of a block.
CP_INLINE long gg_bytes(int32_t format) {
  switch (format) {
  case gg_q4_0: case gg_iq4_nl: return 18;
  case gg_q4_1: return 20;
  case gg_q5_0: return 22;
  case gg_q5_1: return 24;
  case gg_q8_0: return 34;
  case gg_q2_K: return 84;
  case gg_q3_K: return 110;
  case gg_q4_K: return 144;
  case gg_q5_K: return 176;
  case gg_q6_K: return 210;
  case gg_mxfp4_apart: return 16;
  default: return 17;
  }
}
/// Whether minima are subtracted.
CP_INLINE bool gg_has_minima(int32_t format) {
  return format == gg_q4_1 || format == gg_q5_1 || format == gg_q2_K || format == gg_q4_K || format == gg_q5_K;
}
/// Whether the scales lie elsewhere.
CP_INLINE bool gg_is_apart(int32_t format) { return format == gg_mxfp4_apart; }

/// One f16, exactly.
CP_INLINE float gg_half(const uint8_t *p) {
  uint16_t h;
  memcpy(&h, p, 2);
#if defined(__F16C__) || defined(__AVX512F__)
  // By way of a whole register, which the compiler would leave out: an insertion waits for what its register held.
  uint32_t whole = h;
  __asm__("" : "+r"(whole));
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128((int)whole)));
#else
  uint32_t magnitude = (h & 0x7fffu) << 13, bits;
  float value;
  memcpy(&value, &magnitude, 4);
  value *= 0x1p112f;
  memcpy(&bits, &value, 4);
  if (magnitude >= 0x0f800000u) bits = magnitude | 0x7f800000u;
  bits |= (h & 0x8000u) << 16;
  memcpy(&value, &bits, 4);
  return value;
#endif
}

CP_INLINE gg_u8x16 gg_load(const uint8_t *p) {
  gg_u8x16 b;
  memcpy(&b, p, 16);
  return b;
}
CP_INLINE gg_u8x32 gg_load32(const uint8_t *p) {
  gg_u8x32 b;
  memcpy(&b, p, 32);
  return b;
}
/// Bytes shifted by a number from 0 to 7 that is the same for all; bits of the neighbour come in from above, or below.
CP_INLINE gg_u8x32 gg_down(gg_u8x32 b, long count) {
  return (gg_u8x32)((gg_u16x16)b >> (gg_u16x16)(uint16_t)count);
}
CP_INLINE gg_u8x32 gg_up(gg_u8x32 b, long count) { return (gg_u8x32)((gg_u16x16)b << (gg_u16x16)(uint16_t)count); }
CP_INLINE f32x16 gg_signed(gg_i8x16 b) {
  return __builtin_convertvector(__builtin_convertvector(b, mm_i32x16), f32x16);
}
CP_INLINE f32x16 gg_unsigned(gg_u8x16 b) {
  return __builtin_convertvector(__builtin_convertvector(b, mm_i32x16), f32x16);
}
/// The lower halves of sixteen bytes, then the upper ones.
CP_INLINE gg_u8x32 gg_nibbles(const uint8_t *p) {
  gg_u8x16 b = gg_load(p), upper = (gg_u8x16)((mm_u16x8)b >> 4);
  return __builtin_shufflevector(b, upper, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                 22, 23, 24, 25, 26, 27, 28, 29, 30, 31) & 15;
}
/// Sixteen where one of 32 bits is set.
CP_INLINE gg_u8x32 gg_fifth(const uint8_t *p) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  uint32_t bits;
  memcpy(&bits, p, 4);
  return (gg_u8x32)_mm256_maskz_mov_epi8(bits, _mm256_set1_epi8(16));
#else
  gg_u8x16 b = {p[0], p[1], p[2], p[3]};
  gg_u8x32 v = __builtin_shufflevector(b, b, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2,
                                       3, 3, 3, 3, 3, 3, 3, 3);
  gg_u8x32 one = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                  1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  return (gg_u8x32)((v & one) == one) & 16;
#endif
}
/// table[code]
CP_INLINE gg_i8x32 gg_lookup(gg_i8x16 table, gg_u8x32 codes) {
#if defined(__AVX2__)
  return (gg_i8x32)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256((__m128i)table), (__m256i)codes);
#else
  gg_i8x32 v;
  for (int i = 0; i < 32; i++) v[i] = table[codes[i]];
  return v;
#endif
}

/// The bits that a block keeps of the 32 codes of two parts, before anything is taken off or looked up.
CP_INLINE gg_u8x32 gg_bits(int32_t format, const uint8_t *p, long pair) {
  switch (format) {
  case gg_q4_0: case gg_iq4_nl: return gg_nibbles(p + 2);
  case gg_q4_1: return gg_nibbles(p + 4);
  case gg_q5_0: return gg_nibbles(p + 6) | gg_fifth(p + 2);
  case gg_q5_1: return gg_nibbles(p + 8) | gg_fifth(p + 4);
  case gg_q8_0: return gg_load32(p + 2);
  case gg_q2_K: return gg_down(gg_load32(p + 16 + pair / 4 * 32), pair % 4 * 2) & 3;
  case gg_q3_K: {
    gg_u8x32 high = gg_down(gg_load32(p), pair);
    gg_u8x32 low = gg_down(gg_load32(p + 32 + pair / 4 * 32), pair % 4 * 2);
    return (low & 3) | (gg_up(high, 2) & 4);
  }
  case gg_q4_K: return gg_down(gg_load32(p + 16 + pair / 2 * 32), pair % 2 * 4) & 15;
  case gg_q5_K: {
    gg_u8x32 high = gg_down(gg_load32(p + 16), pair);
    gg_u8x32 low = gg_down(gg_load32(p + 48 + pair / 2 * 32), pair % 2 * 4);
    return (low & 15) | (gg_up(high, 4) & 16);
  }
  case gg_q6_K: {
    // Of each half of a block the low bits are in nibbles of 64 bytes, the high bits in pairs of 32.
    gg_u8x32 low = gg_down(gg_load32(p + pair / 4 * 64 + pair % 2 * 32), pair / 2 % 2 * 4);
    gg_u8x32 high = gg_down(gg_load32(p + 128 + pair / 4 * 32), pair % 4 * 2);
    return (low & 15) | (gg_up(high, 4) & 48);
  }
  case gg_mxfp4_apart: {
    gg_u8x16 b = gg_load(p);
    gg_u16x16 twice = (gg_u16x16)__builtin_shufflevector(
        b, b, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15,
        15);
    return (gg_u8x32)((twice & 0x000f) | ((twice >> 4) & 0x0f00));
  }
  default: return gg_nibbles(p + 1);
  }
}
/// What of each code is taken off its bits.
CP_INLINE int8_t gg_middle(int32_t format) {
  switch (format) {
  case gg_q3_K: return 4;
  case gg_q4_0: return 8;
  case gg_q5_0: return 16;
  case gg_q6_K: return 32;
  default: return 0;
  }
}
/// Whether bits are looked up, and what they stand for.
CP_INLINE bool gg_is_looked_up(int32_t format) {
  return format == gg_iq4_nl || format == gg_mxfp4 || format == gg_mxfp4_apart;
}
CP_INLINE gg_i8x16 gg_entries(int32_t format) {
  const gg_i8x16 iq4 = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const gg_i8x16 e2m1 = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  return format == gg_iq4_nl ? iq4 : e2m1;
}
/// The 32 codes of two parts.
CP_INLINE gg_i8x32 gg_pair_codes(int32_t format, const uint8_t *p, long pair) {
  gg_u8x32 bits = gg_bits(format, p, pair);
  return gg_is_looked_up(format) ? gg_lookup(gg_entries(format), bits) : (gg_i8x32)bits - gg_middle(format);
}
/// The sixteen codes of a part, as floats.
CP_INLINE f32x16 gg_codes(int32_t format, const uint8_t *p, long part) {
  gg_i8x32 v = gg_pair_codes(format, p, part / 2);
  return gg_signed(part % 2 == 0
      ? __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
      : __builtin_shufflevector(v, v, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31));
}
/// code * scale - minimum, with scales and minima as `gg_scales` gives them. Formats with minima have products of at
/// most 22 bits, which are exact, so that a fused operation rounds as two do.
CP_INLINE f32x16 gg_values(int32_t format, f32x16 codes, const float *s, long part) {
#pragma clang fp contract(fast)
  if (gg_parts(format) == 2) return gg_has_minima(format) ? codes * s[0] + s[1] : codes * s[0];
  return gg_has_minima(format) ? codes * s[part] - s[16 + part] : codes * s[part];
}

CP_INLINE void gg_put(float *p, f32x16 v) { memcpy(p, &v, 64); }
/// Eight bytes, each for two parts.
CP_INLINE f32x16 gg_twice(uint32_t first, uint32_t second) {
  uint32_t words[4] = {first, second, 0, 0};
  gg_u8x16 b;
  memcpy(&b, words, 16);
  return gg_unsigned(__builtin_shufflevector(b, b, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7));
}

/// Half of two to the power of the byte less 127.
CP_INLINE void gg_half_power(uint8_t exponent, float *s) {
  uint32_t bits = exponent < 2 ? 0x00200000u << exponent : (uint32_t)(exponent - 1) << 23;
  memcpy(s, &bits, 4);
}

/// Two f16 that follow each other, exactly.
CP_INLINE void gg_two_halves(const uint8_t *p, float *s) {
#if defined(__F16C__) || defined(__AVX512F__)
  uint32_t both;
  memcpy(&both, p, 4);
  __m128 v = _mm_cvtph_ps(_mm_cvtsi32_si128((int)both));
  memcpy(s, &v, 8);
#else
  s[0] = gg_half(p);
  s[1] = gg_half(p + 2);
#endif
}

/// The scales of the parts of a block in s[0...], and their minima in s[16...]. Blocks of 32 have one scale, in s[0],
/// and in s[1] what is added: the minimum with its sign changed.
CP_INLINE void gg_scales(int32_t format, const uint8_t *p, float *s) {
  switch (format) {
  case gg_q4_1:
  case gg_q5_1: gg_two_halves(p, s); return;
  case gg_q2_K: {
    gg_u8x16 b = gg_load(p);
    gg_put(s, gg_unsigned(b & 15) * gg_half(p + 80));
    gg_put(s + 16, gg_unsigned(b >> 4) * gg_half(p + 82));
    return;
  }
  case gg_q3_K: {
    uint32_t a[3], b[4];
    memcpy(a, p + 96, 12);
    const uint32_t two = 0x03030303u, four = 0x0f0f0f0fu;
    b[0] = (a[0] & four) | (a[2] & two) << 4;
    b[1] = (a[1] & four) | (a[2] >> 2 & two) << 4;
    b[2] = (a[0] >> 4 & four) | (a[2] >> 4 & two) << 4;
    b[3] = (a[1] >> 4 & four) | (a[2] >> 6 & two) << 4;
    gg_i8x16 v;
    memcpy(&v, b, 16);
    gg_put(s, gg_signed(v - 32) * gg_half(p + 108));
    return;
  }
  case gg_q4_K:
  case gg_q5_K: {
    uint32_t a[3];
    memcpy(a, p + 4, 12);
    const uint32_t two = 0x03030303u, four = 0x0f0f0f0fu, six = 0x3f3f3f3fu;
    gg_put(s, gg_twice(a[0] & six, (a[2] & four) | (a[0] >> 6 & two) << 4) * gg_half(p));
    gg_put(s + 16, gg_twice(a[1] & six, (a[2] >> 4 & four) | (a[1] >> 6 & two) << 4) * gg_half(p + 2));
    return;
  }
  case gg_q6_K: gg_put(s, gg_signed((gg_i8x16)gg_load(p + 192)) * gg_half(p + 208)); return;
  case gg_mxfp4: gg_half_power(p[0], s); return;
  default: s[0] = gg_half(p);
  }
}
