#pragma once
#include "simd.h"
#include <string.h>
#include "simd_matmul.h"

typedef uint8_t qt_u8x16 __attribute__((ext_vector_type(16)));
typedef uint8_t qt_u8x8 __attribute__((ext_vector_type(8)));

/// Adds one to each lane of `index` where `s` is above the threshold.
CP_INLINE u32x16 qt_count_above(u32x16 index, f32x16 s, float threshold) {
  return index - (u32x16)(mm_i32x16)(s > threshold);
}

/// How many of 15 ascending thresholds lie below each lane. `even` has those with even numbers, `odd` the others, both in
/// eight lanes. Where eight entries are looked up by one instruction, four questions find the place.
CP_INLINE u32x16 qt_rank(f32x16 s, const float *thresholds, f32x16 even, f32x16 odd) {
#if defined(__AVX512F__)
  const __m512 v = (__m512)s, e = (__m512)even, o = (__m512)odd;
  const __m512 next = (__m512)__builtin_shufflevector(odd, odd, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512i one = _mm512_set1_epi32(1);
  __m512i half = _mm512_maskz_set1_epi32(_mm512_cmp_ps_mask(v, _mm512_set1_ps(odd[3]), _CMP_GT_OQ), 4);
  __mmask16 above = _mm512_cmp_ps_mask(v, _mm512_permutexvar_ps(half, next), _CMP_GT_OQ);
  half = _mm512_mask_add_epi32(half, above, half, _mm512_set1_epi32(2));
  above = _mm512_cmp_ps_mask(v, _mm512_permutexvar_ps(half, o), _CMP_GT_OQ);
  half = _mm512_mask_add_epi32(half, above, half, one);
  above = _mm512_cmp_ps_mask(v, _mm512_permutexvar_ps(half, e), _CMP_GT_OQ);
  half = _mm512_add_epi32(half, half);
  return (u32x16)_mm512_mask_add_epi32(half, above, half, one);
#elif defined(__AVX2__)
  const __m256 e = (__m256)__builtin_shufflevector(even, even, 0, 1, 2, 3, 4, 5, 6, 7);
  const __m256 o = (__m256)__builtin_shufflevector(odd, odd, 0, 1, 2, 3, 4, 5, 6, 7);
  const __m256 next = (__m256)__builtin_shufflevector(odd, odd, 1, 2, 3, 4, 5, 6, 7, 0);
  u32x8 ranks[2];
  for (int part = 0; part < 2; part++) {
    const __m256 v = (__m256)(part ? __builtin_shufflevector(s, s, 8, 9, 10, 11, 12, 13, 14, 15)
                                   : __builtin_shufflevector(s, s, 0, 1, 2, 3, 4, 5, 6, 7));
    u32x8 half = (u32x8)_mm256_cmp_ps(v, _mm256_set1_ps(odd[3]), _CMP_GT_OQ) & 4u;
    half |= (u32x8)_mm256_cmp_ps(v, _mm256_permutevar8x32_ps(next, (__m256i)half), _CMP_GT_OQ) & 2u;
    half |= (u32x8)_mm256_cmp_ps(v, _mm256_permutevar8x32_ps(o, (__m256i)half), _CMP_GT_OQ) & 1u;
    u32x8 above = (u32x8)_mm256_cmp_ps(v, _mm256_permutevar8x32_ps(e, (__m256i)half), _CMP_GT_OQ);
    ranks[part] = half + half - above;
  }
  return __builtin_shufflevector(ranks[0], ranks[1], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  u32x16 rank = {0};
  for (int t = 0; t < 15; t++) rank = qt_count_above(rank, s, thresholds[t]);
  return rank;
#endif
}

/// Sixteen 4-bit codes in eight bytes, the earlier one of a pair in the high half.
CP_INLINE uint64_t qt_pack_nibbles(u32x16 codes) {
  qt_u8x16 b = __builtin_convertvector(codes, qt_u8x16);
  qt_u8x8 even = __builtin_shufflevector(b, b, 0, 2, 4, 6, 8, 10, 12, 14);
  qt_u8x8 odd = __builtin_shufflevector(b, b, 1, 3, 5, 7, 9, 11, 13, 15);
  qt_u8x8 packed = (even << 4) | odd;
  uint64_t bytes;
  memcpy(&bytes, &packed, 8);
  return bytes;
}

CP_INLINE f32x16 qt_abs(f32x16 v) { return (f32x16)((u32x16)v & 0x7fffffffu); }

CP_INLINE f32x16 qt_sqrt(f32x16 v) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX__)
  f32x8 low = (f32x8)_mm256_sqrt_ps((__m256)__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7));
  f32x8 high = (f32x8)_mm256_sqrt_ps((__m256)__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  return __builtin_elementwise_sqrt(v);
#endif
}

/// table[index[i]]; the table is in the first-level cache.
CP_INLINE f32x16 qt_gather(const float *table, u32x16 index) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_i32gather_ps((__m512i)index, table, 4);
#elif defined(__AVX2__)
  u32x8 low = __builtin_shufflevector(index, index, 0, 1, 2, 3, 4, 5, 6, 7);
  u32x8 high = __builtin_shufflevector(index, index, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector((f32x8)_mm256_i32gather_ps(table, (__m256i)low, 4),
                                 (f32x8)_mm256_i32gather_ps(table, (__m256i)high, 4), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
                                 11, 12, 13, 14, 15);
#else
  f32x16 v;
  for (int i = 0; i < 16; i++) v[i] = table[index[i]];
  return v;
#endif
}

#if defined(__AVX512F__)
/// The entries with bits 0 to 4 of each lane of `index`, of 32 entries.
CP_INLINE __m512 qt_entry32(const float *table, __m512i index) {
  return _mm512_permutex2var_ps(_mm512_loadu_ps(table), index, _mm512_loadu_ps(table + 16));
}
CP_INLINE __m512 qt_entry64(const float *table, __m512i index, __mmask16 bit5) {
  return _mm512_mask_blend_ps(bit5, qt_entry32(table, index), qt_entry32(table + 32, index));
}
CP_INLINE __m512 qt_entry128(const float *table, __m512i index, __mmask16 bit5, __mmask16 bit6) {
  return _mm512_mask_blend_ps(bit6, qt_entry64(table, index, bit5), qt_entry64(table + 64, index, bit5));
}
#endif

/// table[index[i]] of a table of 256 entries. Permutations of sixteen registers take half the time of a gather.
CP_INLINE f32x16 qt_entry256(const float *table, u32x16 index) {
#if defined(__AVX512F__)
  __m512i i = (__m512i)index;
  __mmask16 bit5 = _mm512_test_epi32_mask(i, _mm512_set1_epi32(32));
  __mmask16 bit6 = _mm512_test_epi32_mask(i, _mm512_set1_epi32(64));
  __mmask16 bit7 = _mm512_test_epi32_mask(i, _mm512_set1_epi32(128));
  return (f32x16)_mm512_mask_blend_ps(bit7, qt_entry128(table, i, bit5, bit6), qt_entry128(table + 128, i, bit5, bit6));
#else
  return qt_gather(table, index);
#endif
}

/// The first `count` (0 to 16) bytes, widened; zeros follow. Reads nothing beyond them.
CP_INLINE u32x16 qt_load_bytes(const uint8_t *p, long count) {
  qt_u8x16 b = {0};
  memcpy(&b, p, count >= 16 ? 16 : (size_t)count);
  return __builtin_convertvector(b, u32x16);
}

/// The low bytes of the first `count` lanes.
CP_INLINE void qt_store_bytes(uint8_t *p, u32x16 v, long count) {
  qt_u8x16 b = __builtin_convertvector(v, qt_u8x16);
  memcpy(p, &b, count >= 16 ? 16 : (size_t)count);
}
