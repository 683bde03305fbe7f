// Vector intrinsics behind names that do not depend on the instruction set; all inline into Swift kernels.
// Include only through the module map. Values pass by value; memory goes through `const void *`.
#pragma once
#include "cplatform.h"

typedef float f32x16 __attribute__((ext_vector_type(16)));
typedef float f32x8 __attribute__((ext_vector_type(8)));
typedef uint32_t u32x16 __attribute__((ext_vector_type(16)));
typedef uint32_t u32x8 __attribute__((ext_vector_type(8)));
