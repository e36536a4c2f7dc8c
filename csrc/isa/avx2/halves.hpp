// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "vec.hpp"

namespace forwardpass::FORWARDPASS_ISA {

FP_INLINE IVec upper_halves(IVec low, IVec high) {
  return {_mm256_blend_epi16(_mm256_srli_epi32(low.v, 16), high.v, 0xaa)};
}
FP_INLINE IVec max_halves(IVec a, IVec b) { return {_mm256_max_epi16(a.v, b.v)}; }
FP_INLINE IVec min_halves(IVec a, IVec b) { return {_mm256_min_epi16(a.v, b.v)}; }

}  // namespace forwardpass::FORWARDPASS_ISA
