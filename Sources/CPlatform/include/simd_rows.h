#pragma once
#include "simd.h"
#include <math.h>

/// Scalar logarithm, for row statistics.
CP_INLINE float rows_log(float x) { return logf(x); }
