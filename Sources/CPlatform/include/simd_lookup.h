#pragma once
#include "simd_matmul.h"

// What 4-bit codes stand for: look-ups in a table of sixteen floats.

#if defined(__AVX512BF16__)
typedef uint16_t mm_words32 __attribute__((ext_vector_type(32)));
#endif

/// table[index & 15]
CP_INLINE f32x16 mm_lookup16(f32x16 table, u32x16 index) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_permutexvar_ps((__m512i)index, (__m512)table);
#elif defined(__AVX2__)
  __m256 low = (__m256)__builtin_shufflevector(table, table, 0, 1, 2, 3, 4, 5, 6, 7);
  __m256 high = (__m256)__builtin_shufflevector(table, table, 8, 9, 10, 11, 12, 13, 14, 15);
  __m256i i0 = (__m256i)__builtin_shufflevector(index, index, 0, 1, 2, 3, 4, 5, 6, 7);
  __m256i i1 = (__m256i)__builtin_shufflevector(index, index, 8, 9, 10, 11, 12, 13, 14, 15);
  __m256 v0 = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, i0), _mm256_permutevar8x32_ps(high, i0),
                               (__m256)_mm256_slli_epi32(i0, 28));
  __m256 v1 = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, i1), _mm256_permutevar8x32_ps(high, i1),
                               (__m256)_mm256_slli_epi32(i1, 28));
  return __builtin_shufflevector((f32x8)v0, (f32x8)v1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  f32x16 v;
  float t[16];
  memcpy(t, &table, 64);
  for (int i = 0; i < 16; i++) v[i] = t[index[i] & 15];
  return v;
#endif
}

/// The codebook entries of sixteen 4-bit codes in eight bytes, the earlier one in the high half of its byte.
CP_INLINE f32x16 mm_decode16(f32x16 table, const uint8_t *p) {
#if defined(__AVX2__)
  // Four bytes in each lane, moved so that its code comes first: what loads and shifts do is not asked of the one port
  // that permutes. The look-ups ignore the upper bits of an index, so nothing is masked.
  uint32_t a, b;
  memcpy(&a, p, 4);
  memcpy(&b, p + 4, 4);
#if defined(__AVX512F__)
  __m512i words = _mm512_mask_set1_epi32(_mm512_set1_epi32((int32_t)a), 0xff00, (int32_t)b);
  const __m512i shifts = _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 4, 0, 12, 8, 20, 16, 28, 24);
  return mm_lookup16(table, (u32x16)_mm512_srlv_epi32(words, shifts));
#else
  const __m256i shifts = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
  u32x8 low = (u32x8)_mm256_srlv_epi32(_mm256_set1_epi32((int32_t)a), shifts);
  u32x8 high = (u32x8)_mm256_srlv_epi32(_mm256_set1_epi32((int32_t)b), shifts);
  return mm_lookup16(
      table, __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
#endif
#else
  f32x16 v;
  float t[16];
  memcpy(t, &table, 64);
  for (int i = 0; i < 8; i++) {
    v[2 * i] = t[p[i] >> 4];
    v[2 * i + 1] = t[p[i] & 15];
  }
  return v;
#endif
}

/// What 32 codes in sixteen bytes stand for in a table of sixteen floats, as words of `mm_row_words`.
CP_INLINE u32x16 mm_decode_row_words(f32x16 table, const uint8_t *p) {
#if defined(__AVX512BF16__)
  // Both elements of a byte are looked up at once; the table stands twice, so the fifth bit of an index may be any.
  __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
  __m512i index = _mm512_or_si512(_mm512_srli_epi32(b, 4), _mm512_slli_epi32(b, 16));
  return mm_lookup_low(mm_word_table(table), (u32x16)index);
#else
  return mm_row_words(mm_decode16(table, p), mm_decode16(table, p + 8));
#endif
}

/// What sixteen codes at `p` stand for in the table `low`, and sixteen at `q` in the table `high`, as words of
/// `mm_pair_words`.
CP_INLINE u32x16 mm_decode_pair_words(f32x16 low, f32x16 high, const uint8_t *p, const uint8_t *q) {
#if defined(__AVX512BF16__)
  // One table of 32: a word holds the bytes of both for the columns 2j and 2j + 1, and is moved to the halves of both.
  __m512i table = (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
  __m128i bytes = _mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i *)p), _mm_loadl_epi64((const __m128i *)q));
  const mm_words32 place = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3,
                            4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7};
  const mm_words32 shift = {4, 12, 0, 8, 4, 12, 0, 8, 4, 12, 0, 8, 4, 12, 0, 8,
                            4, 12, 0, 8, 4, 12, 0, 8, 4, 12, 0, 8, 4, 12, 0, 8};
  __m512i words = _mm512_permutexvar_epi16((__m512i)place, _mm512_castsi128_si512(bytes));
  words = _mm512_srlv_epi16(words, (__m512i)shift);
  // (words & 15) | 16 in the upper half
  words = _mm512_ternarylogic_epi32(words, _mm512_set1_epi32(0x000f000f), _mm512_set1_epi32(0x00100000), 0xea);
  return mm_lookup_low((u32x16)table, (u32x16)words);
#else
  return mm_pair_words(mm_decode16(low, p), mm_decode16(high, q));
#endif
}

/// Sixteen bytes, widened.
CP_INLINE u32x16 mm_load_bytes(const void *p) {
  mm_u8x16 b;
  memcpy(&b, p, 16);
  return __builtin_convertvector(b, u32x16);
}

/// Eight steps of sixteen lanes, given the codes of each lane in four bytes: table[code] * scale of the lane, rounded
/// to bfloat16 where `mode` is 2.
CP_INLINE void mm_decode_lanes(f32x16 table, f32x16 scales, const void *codes, int32_t mode, float *to, long stride) {
  u32x16 words;
  memcpy(&words, codes, 64);
  // The first element of a byte is in its upper half.
#define MM_STEP(index, shift)                                          \
  {                                                                    \
    f32x16 v = mm_lookup16(table, words >> shift) * scales;            \
    if (mode == 2) v = mm_round_bf16(v);                               \
    memcpy(to + index * stride, &v, 64);                               \
  }
  MM_STEP(0, 4) MM_STEP(1, 0) MM_STEP(2, 12) MM_STEP(3, 8) MM_STEP(4, 20) MM_STEP(5, 16) MM_STEP(6, 28) MM_STEP(7, 24)
#undef MM_STEP
}

#if defined(__AVX2__) && !defined(__AVX512F__)
// Look-ups of sixteen floats by their bytes. The byte shuffle looks 32 codes up at once and runs twice a cycle, in its
// half of the register; permutations of whole floats cross the halves, take eight codes, and a table needs two of them.

typedef uint8_t mm_u8x32 __attribute__((ext_vector_type(32)));
typedef uint8_t mm_u8x64 __attribute__((ext_vector_type(64)));

#define MM_PLANE(k)                                                                                                 \
  __builtin_shufflevector(b, b, k, k + 4, k + 8, k + 12, k + 16, k + 20, k + 24, k + 28, k + 32, k + 36, k + 40,    \
                          k + 44, k + 48, k + 52, k + 56, k + 60, k, k + 4, k + 8, k + 12, k + 16, k + 20, k + 24,  \
                          k + 28, k + 32, k + 36, k + 40, k + 44, k + 48, k + 52, k + 56, k + 60)

/// Byte `k` of each of sixteen floats, in both halves.
CP_INLINE mm_u8x32 mm_plane(f32x16 table, int32_t k) {
  mm_u8x64 b = (mm_u8x64)table;
  return k == 0 ? MM_PLANE(0) : k == 1 ? MM_PLANE(1) : k == 2 ? MM_PLANE(2) : MM_PLANE(3);
}

/// The codes in the upper and in the lower halves of 32 bytes.
CP_INLINE mm_u8x32 mm_upper_codes(const void *p) {
  return (mm_u8x32)_mm256_and_si256(_mm256_srli_epi16(_mm256_loadu_si256((const __m256i *)p), 4),
                                    _mm256_set1_epi8(15));
}
CP_INLINE mm_u8x32 mm_lower_codes(const void *p) {
  return (mm_u8x32)_mm256_and_si256(_mm256_loadu_si256((const __m256i *)p), _mm256_set1_epi8(15));
}

CP_INLINE f32x16 mm_join(__m256i low, __m256i high) {
  return __builtin_shufflevector((f32x8)low, (f32x8)high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/// What 32 codes stand for, given the four planes of the table: of codes 0 to 7 and 16 to 23 (the shuffles of both
/// functions are shared when both are called).
CP_INLINE f32x16 mm_lookup_first(mm_u8x32 p0, mm_u8x32 p1, mm_u8x32 p2, mm_u8x32 p3, mm_u8x32 codes) {
  __m256i i = (__m256i)codes;
  __m256i low = _mm256_unpacklo_epi8(_mm256_shuffle_epi8((__m256i)p0, i), _mm256_shuffle_epi8((__m256i)p1, i));
  __m256i high = _mm256_unpacklo_epi8(_mm256_shuffle_epi8((__m256i)p2, i), _mm256_shuffle_epi8((__m256i)p3, i));
  return mm_join(_mm256_unpacklo_epi16(low, high), _mm256_unpackhi_epi16(low, high));
}
/// Of codes 8 to 15 and 24 to 31.
CP_INLINE f32x16 mm_lookup_second(mm_u8x32 p0, mm_u8x32 p1, mm_u8x32 p2, mm_u8x32 p3, mm_u8x32 codes) {
  __m256i i = (__m256i)codes;
  __m256i low = _mm256_unpackhi_epi8(_mm256_shuffle_epi8((__m256i)p0, i), _mm256_shuffle_epi8((__m256i)p1, i));
  __m256i high = _mm256_unpackhi_epi8(_mm256_shuffle_epi8((__m256i)p2, i), _mm256_shuffle_epi8((__m256i)p3, i));
  return mm_join(_mm256_unpacklo_epi16(low, high), _mm256_unpackhi_epi16(low, high));
}
/// The same of a table of bfloat16 values, whose other planes are zero.
CP_INLINE f32x16 mm_lookup_first_bf16(mm_u8x32 p2, mm_u8x32 p3, mm_u8x32 codes) {
  __m256i i = (__m256i)codes, zero = _mm256_setzero_si256();
  __m256i high = _mm256_unpacklo_epi8(_mm256_shuffle_epi8((__m256i)p2, i), _mm256_shuffle_epi8((__m256i)p3, i));
  return mm_join(_mm256_unpacklo_epi16(zero, high), _mm256_unpackhi_epi16(zero, high));
}
CP_INLINE f32x16 mm_lookup_second_bf16(mm_u8x32 p2, mm_u8x32 p3, mm_u8x32 codes) {
  __m256i i = (__m256i)codes, zero = _mm256_setzero_si256();
  __m256i high = _mm256_unpackhi_epi8(_mm256_shuffle_epi8((__m256i)p2, i), _mm256_shuffle_epi8((__m256i)p3, i));
  return mm_join(_mm256_unpacklo_epi16(zero, high), _mm256_unpackhi_epi16(zero, high));
}

/// Elements 0 to 31, as two vectors, in the order in which `mm_lookup_first` and `mm_lookup_second` give them.
CP_INLINE f32x16 mm_planes_first(f32x16 a, f32x16 b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
}
CP_INLINE f32x16 mm_planes_second(f32x16 a, f32x16 b) {
  return __builtin_shufflevector(a, b, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
}
#endif
