// What Swift cannot spell: processor features, the tiles of AMX, thread affinity, a pause instruction, two names
// exchanged. The vector headers beside it hold all their code: each kernel target compiles it with its own -march.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#include <arm_neon.h>
#endif
#endif

#define CP_INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
/// Whether the processor has tiles with products of bfloat16, and the system gives the permission that this asks for.
int cp_may_use_tiles(void);
/// `MatmulKernels.Multiply` of bfloat16 pairs with the tiles of AMX: row panels of 32 lanes, column panels of 32.
void cp_multiply_tiles(
    const float *a, long lanes, const float *b, long columns, long panel_pitch, long words, float *c, bool overwrite,
    int32_t mode);
#endif

/// Instruction sets: 0 baseline, 1 AVX2 + FMA + F16C, 2 AVX-512 (F, BW, DQ, VL), 3 AVX-512 with BF16, or NEON with
/// BF16, 4 AVX-512 with BF16 and tiles of AMX.
static inline int cp_cpu_supports(int level) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  switch (level) {
  case 0: return 1;
  case 1: return avx2;
  case 2: return avx512;
  case 3: return avx512 && __builtin_cpu_supports("avx512bf16");
  case 4: return avx512 && __builtin_cpu_supports("avx512bf16") && cp_may_use_tiles();
  default: return 0;
  }
#elif defined(__aarch64__)
  const unsigned long bf16 = 1ul << 14;  // HWCAP2_BF16
  return level == 0 || (level == 3 && (getauxval(AT_HWCAP2) & bf16) != 0);
#else
  return level == 0;
#endif
}

/// Whether the products of the sets with bfloat16 pairs take longer on this processor than the same products of floats.
/// Intel's cores with AMX, Sapphire Rapids and later, begin one VDPBF16PS of 512 bits every second cycle but two
/// multiply-adds in each: 178 and 352 GFLOP/s on two cores of an Emerald Rapids, the one that was measured. Cooper Lake,
/// which has no AMX, is left out: Intel published training in bfloat16 at up to 1.9 times the speed of f32 for it. On
/// AMD's Zen 4 and 5 pairs double the speed.
static inline int cp_has_slow_pairs(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_is("intel") && !__builtin_cpu_is("cooperlake");
#else
  return 0;
#endif
}

CP_INLINE void cp_pause(void) {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

/// Restricts the calling thread to the `index`-th processor of the mask it inherited; 0 on success.
int cp_pin_to_allowed_processor(int index);
/// Number of processors this process may run on.
int cp_allowed_processor_count(void);
/// Gives each of two paths what the other one names, in one step; 0 on success, else -1 and errno.
int cp_exchange(const char *one, const char *other);
