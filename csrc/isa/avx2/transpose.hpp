// SPDX-License-Identifier: Apache-2.0
// kLanes vectors as the rows of a square matrix, and its columns.
#pragma once
#include "vec.hpp"

namespace forwardpass::FORWARDPASS_ISA {

FP_INLINE void transpose(Vec (&v)[kLanes]) {
  __m256 a[8], b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // pairs of rows
    a[2 * i] = _mm256_unpacklo_ps(v[2 * i].v, v[2 * i + 1].v);
    a[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i].v, v[2 * i + 1].v);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {  // four rows: columns j and j + 4 of each
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    v[j].v = _mm256_permute2f128_ps(b[j], b[j + 4], 0x20);
    v[j + 4].v = _mm256_permute2f128_ps(b[j], b[j + 4], 0x31);
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
