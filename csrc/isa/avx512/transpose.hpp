// SPDX-License-Identifier: Apache-2.0
// kLanes vectors as the rows of a square matrix, and its columns.
#pragma once
#include "vec.hpp"

namespace forwardpass::FORWARDPASS_ISA {

FP_INLINE void transpose(Vec (&v)[kLanes]) {
  __m512 a[16], b[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {  // pairs of rows
    a[2 * i] = _mm512_unpacklo_ps(v[2 * i].v, v[2 * i + 1].v);
    a[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i].v, v[2 * i + 1].v);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // four rows: columns j, j + 4, j + 8, j + 12 of each
    b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 even_low = _mm512_shuffle_f32x4(b[j], b[j + 4], 0x88);  // columns j and j + 8 of rows 0 to 7
    const __m512 odd_low = _mm512_shuffle_f32x4(b[j], b[j + 4], 0xdd);   // columns j + 4 and j + 12
    const __m512 even_high = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0x88);
    const __m512 odd_high = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0xdd);
    v[j].v = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    v[j + 8].v = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
    v[j + 4].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    v[j + 12].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
