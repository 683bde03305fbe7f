#pragma once
#include "simd.h"
#include <string.h>
#include "simd_matmul.h"

// The integer steps of Philox (Kernels/Random.swift) that Swift's vectors lack.

/// The upper halves of the 64-bit products a * b.
CP_INLINE u32x16 rd_mul_high(u32x16 a, uint32_t b) {
#if defined(__AVX512F__)
  __m512i factor = _mm512_set1_epi32((int)b);
  __m512i even = _mm512_mul_epu32((__m512i)a, factor);
  __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)a, 32), factor);
  return (u32x16)_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
#elif defined(__AVX2__)
  __m256i factor = _mm256_set1_epi32((int)b);
  u32x8 r[2] = {__builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7),
                __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15)};
  for (int i = 0; i < 2; i++) {
    __m256i even = _mm256_mul_epu32((__m256i)r[i], factor);
    __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)r[i], 32), factor);
    r[i] = (u32x8)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  }
  return __builtin_shufflevector(r[0], r[1], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  u32x16 r;
  for (int i = 0; i < 16; i++) r[i] = (uint32_t)(((uint64_t)a[i] * b) >> 32);
  return r;
#endif
}

typedef uint16_t rd_u16x16 __attribute__((ext_vector_type(16)));

/// v where the numbers reach the threshold, and 0 elsewhere.
CP_INLINE f32x16 rd_keep(f32x16 v, rd_u16x16 numbers, uint32_t threshold) {
  mm_i32x16 keeps = __builtin_convertvector(numbers, u32x16) >= threshold;
  return (f32x16)((u32x16)v & (u32x16)keeps);
}
/// The same with the sixteen numbers in the lower eight words, the lower half of each first.
CP_INLINE f32x16 rd_keep_low(f32x16 v, u32x16 words, uint32_t threshold) {
#if defined(__AVX512BW__)
  __mmask32 keeps = _mm512_cmpge_epu16_mask((__m512i)words, _mm512_set1_epi16((short)threshold));
  return (f32x16)_mm512_maskz_mov_ps((__mmask16)keeps, (__m512)v);
#else
  rd_u16x16 numbers;
  memcpy(&numbers, &words, 32);
  return rd_keep(v, numbers, threshold);
#endif
}
/// The same with those in the upper eight words.
CP_INLINE f32x16 rd_keep_high(f32x16 v, u32x16 words, uint32_t threshold) {
#if defined(__AVX512BW__)
  __mmask32 keeps = _mm512_cmpge_epu16_mask((__m512i)words, _mm512_set1_epi16((short)threshold));
  return (f32x16)_mm512_maskz_mov_ps((__mmask16)(keeps >> 16), (__m512)v);
#else
  rd_u16x16 numbers;
  memcpy(&numbers, (const char *)&words + 32, 32);
  return rd_keep(v, numbers, threshold);
#endif
}

/// a[0], b[0], a[1], b[1], ... of the lower or upper halves.
CP_INLINE u32x16 rd_zip_low(u32x16 a, u32x16 b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
CP_INLINE u32x16 rd_zip_high(u32x16 a, u32x16 b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
/// The same with pairs of lanes.
CP_INLINE u32x16 rd_zip_pairs_low(u32x16 a, u32x16 b) {
  return __builtin_shufflevector(a, b, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
}
CP_INLINE u32x16 rd_zip_pairs_high(u32x16 a, u32x16 b) {
  return __builtin_shufflevector(a, b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31);
}
