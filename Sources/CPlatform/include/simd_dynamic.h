#pragma once
#include "simd_quant.h"

// 8-bit codes of the dynamic maps by arithmetic instead of look-ups in memory, 32 at a time; with AVX-512 entries are looked
// up in registers. Why this gives the codes and entries of the maps: `DynamicLines` in Numerics.

/// One line a decade; see `DynamicLines`, which has this layout.
typedef struct {
  float edge[8], slope[8], offset[8], gap[8];
  float entry_slope[8], entry_offset[8];
  uint8_t corrections[128];
  uint16_t upper[256], lower[256];  // halves of the entries of all codes
} qt_lines;

/// Added to magnitudes, so that their exponents stay within the eight decades.
#define QT_LEAST 0x1p-23f
/// Decades a step of a float's bits. Added to `QT_DECADES`, the product leaves the decade or one less in the low bits.
#define QT_DECADE 0x1.344136p-25f
#define QT_DECADES (0x1.8p23f - 32)
/// A place as far from a whole number as this, in 2^-16, is certain: no float of [0, 1] has a wrong code then, nor one
/// within three units in the last place of a midpoint a certain one.
#define QT_CERTAIN 8

#if defined(__AVX512F__)

CP_INLINE __m512 qt_line(const float *table, __m512i decade) {
  return _mm512_permutexvar_ps(decade, _mm512_broadcast_f32x8(_mm256_loadu_ps(table)));
}

/// Places in 2^-16 of magnitudes to which `QT_LEAST` was added. A NaN gives a place that is not certain.
CP_INLINE __m512i qt_places(const qt_lines *lines, __m512 s) {
  __m512 steps = _mm512_cvtepi32_ps((__m512i)s);
  __m512i guess = (__m512i)_mm512_fmadd_ps(steps, _mm512_set1_ps(QT_DECADE), _mm512_set1_ps(QT_DECADES));
  __mmask16 above = _mm512_cmp_ps_mask(s, qt_line(lines->edge, guess), _CMP_GE_OQ);
  __m512i decade = _mm512_mask_add_epi32(guess, above, guess, _mm512_set1_epi32(1));
  __m512 place = _mm512_fmadd_ps(s, qt_line(lines->slope, decade), qt_line(lines->offset, decade));
  __m512 beyond = _mm512_fmsub_ps(place, _mm512_set1_ps(2), qt_line(lines->gap, decade));
  return _mm512_cvtps_epi32(_mm512_min_ps(place, beyond));
}
CP_INLINE __mmask16 qt_doubts(__m512i places) {
  return _mm512_testn_epi32_mask(_mm512_add_epi32(places, _mm512_set1_epi32(QT_CERTAIN)),
                                 _mm512_set1_epi32(0x10000 - 2 * QT_CERTAIN));
}

/// table[index], 32 words. Bits 6 and 7 of the indices are given as masks.
CP_INLINE __m512i qt_words256(const uint16_t *table, __m512i index, __mmask32 bit6, __mmask32 bit7) {
  __m512i part[4];
  MM_UNROLLED(4) {
    __m512i row = _mm512_loadu_si512(table + 64 * i), next = _mm512_loadu_si512(table + 64 * i + 32);
    part[i] = _mm512_permutex2var_epi16(row, index, next);
  }
  __m512i low = _mm512_mask_blend_epi16(bit6, part[0], part[1]), high = _mm512_mask_blend_epi16(bit6, part[2], part[3]);
  return _mm512_mask_blend_epi16(bit7, low, high);
}

/// Entries of 32 codes, each times `scale`. Two look-ups of 32 halves are cheaper than two of sixteen floats, whose
/// tables are twice as long.
CP_INLINE void qt_decode_signed(const qt_lines *lines, const float *map, const uint8_t *codes, float scale, float *y) {
  __m512i index = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)codes));
  // Interleaving within quarters brings these back to the order of the codes.
  index = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), index);
  __mmask32 bit6 = _mm512_test_epi16_mask(index, _mm512_set1_epi16(64));
  __mmask32 bit7 = _mm512_test_epi16_mask(index, _mm512_set1_epi16(128));
  __m512i upper = qt_words256(lines->upper, index, bit6, bit7), lower = qt_words256(lines->lower, index, bit6, bit7);
  __m512 s = _mm512_set1_ps(scale);
  _mm512_storeu_ps(y, _mm512_mul_ps(s, (__m512)_mm512_unpacklo_epi16(lower, upper)));
  _mm512_storeu_ps(y + 16, _mm512_mul_ps(s, (__m512)_mm512_unpackhi_epi16(lower, upper)));
}
CP_INLINE void qt_decode_unsigned(const qt_lines *lines, const float *map, const uint8_t *codes, float scale,
                                  float *y) {
  qt_decode_signed(lines, map, codes, scale, y);
}

CP_INLINE bool qt_encode_signed(const qt_lines *lines, const float *x, float scale, bool keeps_sign, uint8_t *codes) {
  __mmask16 doubts = 0;
  MM_UNROLLED(2) {
    __m512 v = _mm512_loadu_ps(x + 16 * i);
    __m512 s = _mm512_fmadd_ps(_mm512_abs_ps(v), _mm512_set1_ps(scale), _mm512_set1_ps(QT_LEAST));
    __m512i place = qt_places(lines, s), zero = _mm512_set1_epi32(127);
    doubts |= qt_doubts(place);
    place = _mm512_srli_epi32(place, 16);
    __mmask16 negative = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ);
    __m512i down = keeps_sign ? _mm512_max_epi32(place, _mm512_set1_epi32(1)) : place;
    __m512i code = _mm512_mask_sub_epi32(_mm512_add_epi32(zero, place), negative, zero, down);
    code = _mm512_max_epi32(code, _mm512_setzero_si512());
    _mm_storeu_si128((__m128i *)(codes + 16 * i), _mm512_cvtepi32_epi8(code));
  }
  return doubts == 0;
}

CP_INLINE bool qt_encode_unsigned(const qt_lines *lines, const float *x, float scale, uint8_t *codes) {
  __mmask16 doubts = 0;
  MM_UNROLLED(2) {
    __m512 v = _mm512_loadu_ps(x + 16 * i);
    __m512i place = qt_places(lines, _mm512_fmadd_ps(v, _mm512_set1_ps(scale), _mm512_set1_ps(QT_LEAST)));
    doubts |= qt_doubts(place);
    _mm_storeu_si128((__m128i *)(codes + 16 * i), _mm512_cvtepi32_epi8(_mm512_srli_epi32(place, 16)));
  }
  return doubts == 0;
}

#elif defined(__AVX2__)

CP_INLINE __m256 qt_line(const float *table, __m256i decade) {
  return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), decade);
}

/// Places in 2^-16 of magnitudes to which `QT_LEAST` was added. A NaN gives a place that is not certain.
CP_INLINE __m256i qt_places(const qt_lines *lines, __m256 s) {
  __m256 steps = _mm256_cvtepi32_ps((__m256i)s);
  __m256i guess = (__m256i)_mm256_fmadd_ps(steps, _mm256_set1_ps(QT_DECADE), _mm256_set1_ps(QT_DECADES));
  __m256 above = _mm256_cmp_ps(s, qt_line(lines->edge, guess), _CMP_GE_OQ);
  __m256i decade = _mm256_sub_epi32(guess, (__m256i)above);
  __m256 place = _mm256_fmadd_ps(s, qt_line(lines->slope, decade), qt_line(lines->offset, decade));
  __m256 beyond = _mm256_fmsub_ps(place, _mm256_set1_ps(2), qt_line(lines->gap, decade));
  return _mm256_cvtps_epi32(_mm256_min_ps(place, beyond));
}

// Sixteen lanes of 16 bits hold what belongs to a[0], b[0], a[1], b[1] and so on.
CP_INLINE __m256i qt_uppers(__m256i a, __m256i b) { return _mm256_blend_epi16(_mm256_srli_epi32(a, 16), b, 0xaa); }
CP_INLINE __m256i qt_lowers(__m256i a, __m256i b) { return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa); }

/// Stores bytes packed from two vectors of that order, in the order of the elements.
CP_INLINE void qt_store_turns(uint8_t *p, __m256i bytes) {
  __m256i turns = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
  bytes = _mm256_shuffle_epi8(bytes, turns);
  bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256((__m256i *)p, bytes);
}

CP_INLINE bool qt_all_certain(__m256i fractions0, __m256i fractions1) {
  __m256i bound = _mm256_set1_epi16(QT_CERTAIN);
  __m256i least = _mm256_min_epu16(_mm256_add_epi16(fractions0, bound), _mm256_add_epi16(fractions1, bound));
  __m256i certain = _mm256_and_si256(least, _mm256_set1_epi16((short)(0x10000 - 2 * QT_CERTAIN)));
  certain = _mm256_cmpeq_epi16(certain, _mm256_setzero_si256());
  return _mm256_testz_si256(certain, certain);
}

CP_INLINE bool qt_encode_signed(const qt_lines *lines, const float *x, float scale, bool keeps_sign, uint8_t *codes) {
  __m256 sign = _mm256_set1_ps(-0.0f), y = _mm256_set1_ps(scale), least = _mm256_set1_ps(QT_LEAST);
  __m256 zero = _mm256_setzero_ps();
  __m256i whole[2], fractions[2], below[2];
  MM_UNROLLED(2) {
    __m256 a = _mm256_loadu_ps(x + 16 * i), b = _mm256_loadu_ps(x + 16 * i + 8);
    __m256i first = qt_places(lines, _mm256_fmadd_ps(_mm256_andnot_ps(sign, a), y, least));
    __m256i second = qt_places(lines, _mm256_fmadd_ps(_mm256_andnot_ps(sign, b), y, least));
    whole[i] = qt_uppers(first, second);
    fractions[i] = qt_lowers(first, second);
    below[i] = _mm256_blend_epi16((__m256i)_mm256_cmp_ps(a, zero, _CMP_LT_OQ),
                                  (__m256i)_mm256_cmp_ps(b, zero, _CMP_LT_OQ), 0xaa);
  }
  __m256i negative = _mm256_packs_epi16(below[0], below[1]), place = _mm256_packus_epi16(whole[0], whole[1]);
  if (keeps_sign) place = _mm256_max_epu8(place, _mm256_abs_epi8(negative));
  // There is one positive entry more than negative ones.
  place = _mm256_min_epu8(place, _mm256_xor_si256(negative, _mm256_set1_epi8((char)128)));
  place = _mm256_sub_epi8(_mm256_xor_si256(place, negative), negative);
  qt_store_turns(codes, _mm256_add_epi8(place, _mm256_set1_epi8(127)));
  return qt_all_certain(fractions[0], fractions[1]);
}

CP_INLINE bool qt_encode_unsigned(const qt_lines *lines, const float *x, float scale, uint8_t *codes) {
  __m256 y = _mm256_set1_ps(scale), least = _mm256_set1_ps(QT_LEAST);
  __m256i whole[2], fractions[2];
  MM_UNROLLED(2) {
    __m256i first = qt_places(lines, _mm256_fmadd_ps(_mm256_loadu_ps(x + 16 * i), y, least));
    __m256i second = qt_places(lines, _mm256_fmadd_ps(_mm256_loadu_ps(x + 16 * i + 8), y, least));
    whole[i] = qt_uppers(first, second);
    fractions[i] = qt_lowers(first, second);
  }
  qt_store_turns(codes, _mm256_packus_epi16(whole[0], whole[1]));
  return qt_all_certain(fractions[0], fractions[1]);
}

/// table[index & 127] of bytes; 0 for indices above 127 whose bits 4 to 6 are clear.
CP_INLINE __m256i qt_byte128(const uint8_t *table, __m256i index) {
  __m256i bit4 = _mm256_slli_epi16(index, 3), bit5 = _mm256_slli_epi16(index, 2), bit6 = _mm256_slli_epi16(index, 1);
  __m256i part[8];
  MM_UNROLLED(8) {
    __m128i row = _mm_loadu_si128((const __m128i *)(table + 16 * i));
    part[i] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(row), index);
  }
  MM_UNROLLED(4) part[i] = _mm256_blendv_epi8(part[2 * i], part[2 * i + 1], bit4);
  MM_UNROLLED(2) part[i] = _mm256_blendv_epi8(part[2 * i], part[2 * i + 1], bit5);
  return _mm256_blendv_epi8(part[0], part[1], bit6);
}

/// Entries of eight codes; `twice` is twice the place with its sign.
CP_INLINE __m256 qt_entries_signed(const qt_lines *lines, __m128i codes, __m128i corrections) {
  __m256 code = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes));
  __m256 twice = _mm256_fmadd_ps(code, _mm256_set1_ps(2), _mm256_set1_ps(-254));
  __m256i decade = _mm256_srli_epi32((__m256i)twice, 23);
  __m256 sign = _mm256_and_ps(twice, _mm256_set1_ps(-0.0f));
  __m256 offset = _mm256_xor_ps(qt_line(lines->entry_offset, decade), sign);
  __m256i entry = (__m256i)_mm256_fmadd_ps(twice, qt_line(lines->entry_slope, decade), offset);
  return (__m256)_mm256_add_epi32(entry, _mm256_cvtepi8_epi32(corrections));
}
CP_INLINE __m256 qt_entries_unsigned(const qt_lines *lines, __m128i codes, __m128i corrections) {
  __m256 place = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(codes), _mm256_set1_epi32(-1)));
  __m256i decade = _mm256_srli_epi32((__m256i)place, 23);
  __m256 offset = qt_line(lines->entry_offset, decade);
  __m256i entry = (__m256i)_mm256_fmadd_ps(place, qt_line(lines->entry_slope, decade), offset);
  return (__m256)_mm256_add_epi32(entry, _mm256_cvtepi8_epi32(corrections));
}

#endif

#if defined(__AVX2__) && !defined(__AVX512F__)
/// Entries of 32 codes, each times `scale`.
CP_INLINE void qt_decode_signed(const qt_lines *lines, const float *map, const uint8_t *codes, float scale, float *y) {
  __m256i c = _mm256_loadu_si256((const __m256i *)codes);
  __m256i r = qt_byte128(lines->corrections, _mm256_abs_epi8(_mm256_sub_epi8(c, _mm256_set1_epi8(127))));
  __m128i c0 = _mm256_castsi256_si128(c), c1 = _mm256_extracti128_si256(c, 1);
  __m128i r0 = _mm256_castsi256_si128(r), r1 = _mm256_extracti128_si256(r, 1);
  __m256 s = _mm256_set1_ps(scale);
  _mm256_storeu_ps(y, s * qt_entries_signed(lines, c0, r0));
  _mm256_storeu_ps(y + 8, s * qt_entries_signed(lines, _mm_srli_si128(c0, 8), _mm_srli_si128(r0, 8)));
  _mm256_storeu_ps(y + 16, s * qt_entries_signed(lines, c1, r1));
  _mm256_storeu_ps(y + 24, s * qt_entries_signed(lines, _mm_srli_si128(c1, 8), _mm_srli_si128(r1, 8)));
}
CP_INLINE void qt_decode_unsigned(const qt_lines *lines, const float *map, const uint8_t *codes, float scale,
                                  float *y) {
  __m256i c = _mm256_loadu_si256((const __m256i *)codes);
  // The correction of a code above 127 is in the upper half of its byte.
  __m256i r = qt_byte128(lines->corrections, _mm256_and_si256(c, _mm256_set1_epi8(127)));
  r = _mm256_and_si256(_mm256_blendv_epi8(r, _mm256_srli_epi16(r, 4), c), _mm256_set1_epi8(15));
  r = _mm256_sub_epi8(_mm256_xor_si256(r, _mm256_set1_epi8(8)), _mm256_set1_epi8(8));
  __m128i c0 = _mm256_castsi256_si128(c), c1 = _mm256_extracti128_si256(c, 1);
  __m128i r0 = _mm256_castsi256_si128(r), r1 = _mm256_extracti128_si256(r, 1);
  __m256 s = _mm256_set1_ps(scale);
  _mm256_storeu_ps(y, s * qt_entries_unsigned(lines, c0, r0));
  _mm256_storeu_ps(y + 8, s * qt_entries_unsigned(lines, _mm_srli_si128(c0, 8), _mm_srli_si128(r0, 8)));
  _mm256_storeu_ps(y + 16, s * qt_entries_unsigned(lines, c1, r1));
  _mm256_storeu_ps(y + 24, s * qt_entries_unsigned(lines, _mm_srli_si128(c1, 8), _mm_srli_si128(r1, 8)));
}
#elif !defined(__AVX2__)
CP_INLINE void qt_decode_signed(const qt_lines *lines, const float *map, const uint8_t *codes, float scale, float *y) {
  for (int i = 0; i < 32; i++) y[i] = map[codes[i]] * scale;
}
CP_INLINE void qt_decode_unsigned(const qt_lines *lines, const float *map, const uint8_t *codes, float scale,
                                  float *y) {
  qt_decode_signed(lines, map, codes, scale, y);
}
#endif

#if !defined(__AVX2__)
// Without permutations of eight lanes nothing is gained over the table of cells.
CP_INLINE bool qt_encode_signed(const qt_lines *lines, const float *x, float scale, bool keeps_sign, uint8_t *codes) {
  return false;
}
CP_INLINE bool qt_encode_unsigned(const qt_lines *lines, const float *x, float scale, uint8_t *codes) { return false; }
#endif
