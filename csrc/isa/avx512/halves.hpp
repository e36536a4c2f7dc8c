// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "vec.hpp"

namespace forwardpass::FORWARDPASS_ISA {

FP_INLINE IVec upper_halves(IVec low, IVec high) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm512_ternarylogic_epi32(_mm512_srli_epi32(low.v, 16), high.v, upper, 0xf8)};  // a | (b & c)
}
FP_INLINE IVec max_halves(IVec a, IVec b) { return {_mm512_max_epi16(a.v, b.v)}; }
FP_INLINE IVec min_halves(IVec a, IVec b) { return {_mm512_min_epi16(a.v, b.v)}; }

}  // namespace forwardpass::FORWARDPASS_ISA
