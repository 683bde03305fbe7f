#pragma once
#include <stdbool.h>
#include <stdint.h>

/// What `cp_multiply_tiles` computes, with the tile instructions in plain C: the same bits, besides those of NaN.
void tt_multiply(
    const float *a, long lanes, const float *b, long columns, long panel_pitch, long words, float *c, bool overwrite,
    int32_t mode);
