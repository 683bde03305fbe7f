#pragma once
#include <stdbool.h>
#include <string.h>
#include "simd.h"
// Everything here is inlined, so the calling convention of vectors wider than the processor's does not matter.
#pragma clang diagnostic ignored "-Wpsabi"

// Loads, stores and permutations of the matrix products. Element types are the raw values of DType:
// 0 float32, 1 bfloat16, 2 float16. A "word" is what one multiply-add step takes per lane: a float, or a pair of
// bfloat16 values that follow each other along the contraction (the earlier one in the low half).

typedef uint8_t mm_u8x16 __attribute__((ext_vector_type(16)));
typedef uint16_t mm_u16x16 __attribute__((ext_vector_type(16)));
typedef uint16_t mm_u16x8 __attribute__((ext_vector_type(8)));
typedef float mm_f32x4 __attribute__((ext_vector_type(4)));
typedef int32_t mm_i32x4 __attribute__((ext_vector_type(4)));
typedef int32_t mm_i32x8 __attribute__((ext_vector_type(8)));
typedef int32_t mm_i32x16 __attribute__((ext_vector_type(16)));

CP_INLINE f32x16 mm_from_bf16(mm_u16x16 h) { return (f32x16)(__builtin_convertvector(h, u32x16) << 16); }

/// Nearest even; a NaN stays a (quiet) NaN.
CP_INLINE u32x16 mm_bf16_bits(f32x16 v) {
#if defined(__AVX512BF16__)
  // The instruction takes subnormals (class bit 0x20) for zeros.
  if (__builtin_expect(_mm512_fpclass_ps_mask((__m512)v, 0x20) == 0, 1))
    return (u32x16)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v));
#endif
  u32x16 u = (u32x16)v;
  u32x16 rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  u32x16 nan = (u32x16)(mm_i32x16)((u & 0x7fffffffu) > 0x7f800000u);
  return (rounded & ~nan) | (((u >> 16) | 0x40u) & nan);
}

CP_INLINE f32x16 mm_round_bf16(f32x16 v) { return (f32x16)(mm_bf16_bits(v) << 16); }

CP_INLINE f32x16 mm_from_f16(mm_u16x16 h) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_cvtph_ps((__m256i)h);
#else
  // The exponent is rebased by an exact product, which also normalises subnormals; infinities and NaN are patched.
  u32x16 u = __builtin_convertvector(h, u32x16);
  u32x16 magnitude = (u & 0x7fffu) << 13;
  f32x16 value = (f32x16)magnitude * 0x1p112f;
  u32x16 special = (u32x16)(mm_i32x16)(magnitude >= 0x0f800000u);
  u32x16 bits = ((u32x16)value & ~special) | ((magnitude | 0x7f800000u) & special);
  return (f32x16)(bits | ((u & 0x8000u) << 16));
#endif
}

CP_INLINE uint16_t mm_f16_bits1(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  uint32_t sign = (u >> 16) & 0x8000u;
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((u >> 13) & 0x3ffu));
  if (u >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
  if (u < 0x38800000u) {
    // Subnormal result: adding 0.5 puts the rounding of the processor at the last bit of the half.
    float magnitude, shifted;
    memcpy(&magnitude, &u, 4);
    shifted = magnitude + 0.5f;
    memcpy(&u, &shifted, 4);
    return (uint16_t)(sign | (u - 0x3f000000u));
  }
  return (uint16_t)(sign | ((u - 0x38000000u + 0xfffu + ((u >> 13) & 1u)) >> 13));
}

CP_INLINE mm_u16x16 mm_to_f16(f32x16 v) {
#if defined(__AVX512F__)
  return (mm_u16x16)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__F16C__)
  f32x8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  f32x8 b = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  mm_u16x8 low = (mm_u16x8)_mm256_cvtps_ph((__m256)a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  mm_u16x8 high = (mm_u16x8)_mm256_cvtps_ph((__m256)b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  mm_u16x16 h;
  for (int i = 0; i < 16; i++) h[i] = mm_f16_bits1(v[i]);
  return h;
#endif
}

/// Never faults, whatever the address.
CP_INLINE void mm_prefetch(const void *p) { __builtin_prefetch(p, 0, 2); }

/// Sixteen elements of any float type, as floats.
CP_INLINE f32x16 mm_load(const void *p, int32_t type) {
  if (type == 0) {
    f32x16 v;
    memcpy(&v, p, 64);
    return v;
  }
  mm_u16x16 h;
  memcpy(&h, p, 32);
  return type == 1 ? mm_from_bf16(h) : mm_from_f16(h);
}

#if defined(__AVX2__)
/// All ones in the first `count` of eight lanes, none for a negative count.
CP_INLINE __m256i mm_first8(long count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

/// The first `count` (0 to 16) elements; zeros follow. Reads nothing beyond them.
CP_INLINE f32x16 mm_load_part(const void *p, int32_t type, long count) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  if (type == 0) return (f32x16)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
  mm_u16x16 h = (mm_u16x16)_mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), p);
  return type == 1 ? mm_from_bf16(h) : mm_from_f16(h);
#else
#if defined(__AVX2__)
  if (type == 0) {
    f32x8 low = (f32x8)_mm256_maskload_ps((const float *)p, mm_first8(count));
    f32x8 high = (f32x8)_mm256_maskload_ps((const float *)p + 8, mm_first8(count - 8));
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
#else
  if (type == 0) {
    float t[16] = {0};
    memcpy(t, p, 4 * (size_t)count);
    return mm_load(t, 0);
  }
#endif
  uint16_t t[16] = {0};
  memcpy(t, p, 2 * (size_t)count);
  return mm_load(t, type);
#endif
}

CP_INLINE mm_u16x16 mm_narrow_bf16(f32x16 v) {
#if defined(__AVX512BF16__)
  if (__builtin_expect(_mm512_fpclass_ps_mask((__m512)v, 0x20) == 0, 1))
    return (mm_u16x16)_mm512_cvtneps_pbh((__m512)v);
#endif
  return __builtin_convertvector(mm_bf16_bits(v), mm_u16x16);
}

CP_INLINE void mm_store(void *p, int32_t type, f32x16 v) {
  if (type == 0) {
    memcpy(p, &v, 64);
    return;
  }
  mm_u16x16 h = type == 1 ? mm_narrow_bf16(v) : mm_to_f16(v);
  memcpy(p, &h, 32);
}

/// `yes` where a comparison gave all ones, else `no`.
CP_INLINE f32x16 mm_select(mm_i32x16 mask, f32x16 yes, f32x16 no) {
  return (f32x16)(((u32x16)mask & (u32x16)yes) | (~(u32x16)mask & (u32x16)no));
}

/// low below `low`, high above `high`; NaN stays.
CP_INLINE f32x16 mm_clamp(f32x16 v, float low, float high) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), (__m512)v));
#elif defined(__AVX__)
  f32x8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  f32x8 b = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  a = (f32x8)_mm256_min_ps(_mm256_set1_ps(high), _mm256_max_ps(_mm256_set1_ps(low), (__m256)a));
  b = (f32x8)_mm256_min_ps(_mm256_set1_ps(high), _mm256_max_ps(_mm256_set1_ps(low), (__m256)b));
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  f32x16 bottom = low, top = high;
  v = mm_select(v < bottom, bottom, v);
  return mm_select(v > top, top, v);
#endif
}

/// The largest lane, of lanes that are no NaN.
CP_INLINE float mm_largest(f32x16 v) {
  f32x8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  f32x8 b = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  mm_i32x8 more = b > a;
  a = (f32x8)((more & (mm_i32x8)b) | (~more & (mm_i32x8)a));
  mm_f32x4 c = __builtin_shufflevector(a, a, 0, 1, 2, 3), d = __builtin_shufflevector(a, a, 4, 5, 6, 7);
  mm_i32x4 larger = d > c;
  c = (mm_f32x4)((larger & (mm_i32x4)d) | (~larger & (mm_i32x4)c));
  float x = c[0] < c[1] ? c[1] : c[0], y = c[2] < c[3] ? c[3] : c[2];
  return x < y ? y : x;
}

/// Whether one of the values is subnormal, which the rounding instruction takes for zero: then `mm_round_bf16` is
/// needed instead of `mm_round_bf16_normal`. One test for four vectors.
CP_INLINE bool mm_needs_exact_bf16(f32x16 a, f32x16 b, f32x16 c, f32x16 d) {
#if defined(__AVX512BF16__)
  __mmask16 m = _mm512_fpclass_ps_mask((__m512)a, 0x20) | _mm512_fpclass_ps_mask((__m512)b, 0x20) |
                _mm512_fpclass_ps_mask((__m512)c, 0x20) | _mm512_fpclass_ps_mask((__m512)d, 0x20);
  return __builtin_expect(m != 0, 0);
#else
  return false;
#endif
}

/// `mm_round_bf16` of values none of which is subnormal.
CP_INLINE f32x16 mm_round_bf16_normal(f32x16 v) {
#if defined(__AVX512BF16__)
  return mm_from_bf16((mm_u16x16)_mm512_cvtneps_pbh((__m512)v));
#else
  return mm_round_bf16(v);
#endif
}

/// Sixty-four elements.
CP_INLINE void mm_store_four(void *p, int32_t type, f32x16 a, f32x16 b, f32x16 c, f32x16 d) {
#if defined(__AVX512BF16__)
  if (type == 1 && !mm_needs_exact_bf16(a, b, c, d)) {
    __m512bh low = _mm512_cvtne2ps_pbh((__m512)b, (__m512)a), high = _mm512_cvtne2ps_pbh((__m512)d, (__m512)c);
    memcpy(p, &low, 64);
    memcpy((char *)p + 64, &high, 64);
    return;
  }
#endif
  long step = type == 0 ? 64 : 32;
  mm_store(p, type, a);
  mm_store((char *)p + step, type, b);
  mm_store((char *)p + 2 * step, type, c);
  mm_store((char *)p + 3 * step, type, d);
}

/// The first `count` (0 to 15) lanes in pieces of 8, 4, 2 and 1: a masked store takes tens of cycles on some processors,
/// and a copy of variable length is a call.
CP_INLINE void mm_store_pieces32(void *p, f32x16 v, long count) {
  float *to = p;
  f32x8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  if (count & 8) {
    memcpy(to, &a, 32);
    a = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    to += 8;
  }
  mm_f32x4 b = __builtin_shufflevector(a, a, 0, 1, 2, 3);
  if (count & 4) {
    memcpy(to, &b, 16);
    b = __builtin_shufflevector(a, a, 4, 5, 6, 7);
    to += 4;
  }
  if (count & 2) {
    memcpy(to, &b, 8);
    b = __builtin_shufflevector(b, b, 2, 3, 0, 1);
    to += 2;
  }
  if (count & 1) *to = b[0];
}

CP_INLINE void mm_store_pieces16(void *p, mm_u16x16 v, long count) {
  uint16_t *to = p;
  mm_u16x8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  if (count & 8) {
    memcpy(to, &a, 16);
    a = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    to += 8;
  }
  if (count & 4) {
    memcpy(to, &a, 8);
    a = __builtin_shufflevector(a, a, 4, 5, 6, 7, 0, 1, 2, 3);
    to += 4;
  }
  if (count & 2) {
    memcpy(to, &a, 4);
    a = __builtin_shufflevector(a, a, 2, 3, 4, 5, 6, 7, 0, 1);
    to += 2;
  }
  if (count & 1) *to = a[0];
}

/// The first `count` (0 to 15) lanes. Writes nothing beyond them.
CP_INLINE void mm_store_part(void *p, int32_t type, f32x16 v, long count) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  __mmask16 m = (__mmask16)((1u << count) - 1);
  if (type == 0) {
    _mm512_mask_storeu_ps(p, m, (__m512)v);
    return;
  }
  _mm256_mask_storeu_epi16(p, m, (__m256i)(type == 1 ? mm_narrow_bf16(v) : mm_to_f16(v)));
#else
  if (type == 0) {
    mm_store_pieces32(p, v, count);
  } else {
    mm_store_pieces16(p, type == 1 ? mm_narrow_bf16(v) : mm_to_f16(v), count);
  }
#endif
}

/// Pairs (low[i], high[i]) as bfloat16.
CP_INLINE u32x16 mm_pair_words(f32x16 low, f32x16 high) {
#if defined(__AVX512BF16__)
  __m512i l = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)low));
  __m512i h = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)high));
  return (u32x16)_mm512_or_si512(l, _mm512_slli_epi32(h, 16));
#else
  return mm_bf16_bits(low) | (mm_bf16_bits(high) << 16);
#endif
}

/// Elements with even and with odd index of 32 that follow each other.
CP_INLINE f32x16 mm_even(f32x16 a, f32x16 b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
CP_INLINE f32x16 mm_odd(f32x16 a, f32x16 b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

/// Thirty-two consecutive elements, given as two vectors, as sixteen pairs.
CP_INLINE u32x16 mm_row_words(f32x16 first, f32x16 second) {
#if defined(__AVX512BF16__)
  return (u32x16)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
#else
  return mm_pair_words(mm_even(first, second), mm_odd(first, second));
#endif
}

/// Sixteen lanes of two rows of bfloat16 values in memory, as pairs (low[i], high[i]).
CP_INLINE u32x16 mm_zip_words(const void *low, const void *high) {
  mm_u16x16 l, h;
  memcpy(&l, low, 32);
  memcpy(&h, high, 32);
  return __builtin_convertvector(l, u32x16) | (__builtin_convertvector(h, u32x16) << 16);
}

#if defined(__AVX512BF16__)
CP_INLINE f32x16 mm_dot_pairs(f32x16 c, u32x16 a, u32x16 b) {
  return (f32x16)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
}

/// A table of sixteen values as bfloat16, twice: `mm_lookup_words` looks at five bits of an index.
CP_INLINE u32x16 mm_word_table(f32x16 table) {
  return (u32x16)_mm512_cvtne2ps_pbh((__m512)table, (__m512)table);
}

/// Thirty-two bytes, widened to 16 bits each.
CP_INLINE u32x16 mm_load_bytes32(const void *p) {
  return (u32x16)_mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p));
}

/// The entries for the lower four bits of each 16-bit index, and for the four above them.
CP_INLINE u32x16 mm_lookup_low(u32x16 table, u32x16 index) {
  return (u32x16)_mm512_permutexvar_epi16((__m512i)index, (__m512i)table);
}
CP_INLINE u32x16 mm_lookup_high(u32x16 table, u32x16 index) {
  return (u32x16)_mm512_permutexvar_epi16(_mm512_srli_epi16((__m512i)index, 4), (__m512i)table);
}
#endif

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define MM_DOT_QUARTER(n)                                                                                          \
  (mm_f32x4) vbfdotq_f32(                                                                                          \
      (float32x4_t)__builtin_shufflevector(c, c, n, n + 1, n + 2, n + 3),                                          \
      (bfloat16x8_t)__builtin_shufflevector(a, a, n, n + 1, n + 2, n + 3),                                         \
      (bfloat16x8_t)__builtin_shufflevector(b, b, n, n + 1, n + 2, n + 3))

/// The sum of both products of a pair, and that added to c, are each rounded to odd; subnormals count as zeros. Programs
/// that leave FPCR.EBF at 0, as all do, get the same bits from every processor.
CP_INLINE f32x16 mm_dot_pairs(f32x16 c, u32x16 a, u32x16 b) {
  mm_f32x4 q0 = MM_DOT_QUARTER(0), q1 = MM_DOT_QUARTER(4), q2 = MM_DOT_QUARTER(8), q3 = MM_DOT_QUARTER(12);
  f32x8 low = __builtin_shufflevector(q0, q1, 0, 1, 2, 3, 4, 5, 6, 7);
  f32x8 high = __builtin_shufflevector(q2, q3, 0, 1, 2, 3, 4, 5, 6, 7);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
#endif

/// The sum of the lanes, in halves: a fixed order on every instruction set.
CP_INLINE float mm_sum(f32x16 v) {
  f32x8 low = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  f32x8 a = low + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  mm_f32x4 b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
  return (b[0] + b[2]) + (b[1] + b[3]);
}

// The loops are unrolled so that the rows stay in registers.
#define MM_UNROLLED(count) _Pragma("clang loop unroll(full)") for (int i = 0; i < count; i++)
/// Exchanges halves of rows: element (i, j) with `bit` of i and of j swapped.
#define MM_EXCHANGE(bit, low_lanes, high_lanes)                                   \
  MM_UNROLLED(8) if (!(i & bit)) {                                                \
    f32x8 low = __builtin_shufflevector(r[i], r[i + bit], low_lanes);             \
    r[i + bit] = __builtin_shufflevector(r[i], r[i + bit], high_lanes);           \
    r[i] = low;                                                                   \
  }
#define MM_L4 0, 1, 2, 3, 8, 9, 10, 11
#define MM_H4 4, 5, 6, 7, 12, 13, 14, 15
#define MM_L2 0, 1, 8, 9, 4, 5, 12, 13
#define MM_H2 2, 3, 10, 11, 6, 7, 14, 15
#define MM_L1 0, 8, 2, 10, 4, 12, 6, 14
#define MM_H1 1, 9, 3, 11, 5, 13, 7, 15

/// dst[j][i] = src[i][j] for 8 x 8 words, which must not overlap; strides in words.
CP_INLINE void mm_transpose8(const float *src, long src_stride, float *dst, long dst_stride) {
  f32x8 r[8];
  MM_UNROLLED(8) memcpy(&r[i], src + i * src_stride, 32);
  MM_EXCHANGE(4, MM_L4, MM_H4)
  MM_EXCHANGE(2, MM_L2, MM_H2)
  MM_EXCHANGE(1, MM_L1, MM_H1)
  MM_UNROLLED(8) memcpy(dst + i * dst_stride, &r[i], 32);
}

/// The same for 16 x 16 words: as quarters, because sixteen rows of sixteen would not fit in the registers of AVX2, and
/// those of AVX-512 gain nothing from it.
CP_INLINE void mm_transpose16(const float *src, long src_stride, float *dst, long dst_stride) {
  mm_transpose8(src, src_stride, dst, dst_stride);
  mm_transpose8(src + 8, src_stride, dst + 8 * dst_stride, dst_stride);
  mm_transpose8(src + 8 * src_stride, src_stride, dst + 8, dst_stride);
  mm_transpose8(src + 8 * src_stride + 8, src_stride, dst + 8 * dst_stride + 8, dst_stride);
}
