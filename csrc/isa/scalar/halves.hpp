// SPDX-License-Identifier: Apache-2.0
// Words as two numbers of 16 bits each, with a sign.
#pragma once
#include "vec.hpp"

namespace forwardpass::FORWARDPASS_ISA {

// The upper halves of two words in one, that of `low` in the lower half.
FP_INLINE IVec upper_halves(IVec low, IVec high) {
  const auto word = static_cast<std::uint32_t>(low.v) >> 16 | (static_cast<std::uint32_t>(high.v) & 0xffff0000u);
  return {static_cast<std::int32_t>(word)};
}

FP_INLINE IVec max_halves(IVec a, IVec b) {
  const auto larger = [](std::int32_t x, std::int32_t y) { return static_cast<std::int16_t>(x > y ? x : y); };
  const std::int16_t low = larger(static_cast<std::int16_t>(a.v), static_cast<std::int16_t>(b.v));
  return {larger(a.v >> 16, b.v >> 16) * 65536 | static_cast<std::uint16_t>(low)};
}
FP_INLINE IVec min_halves(IVec a, IVec b) {
  const IVec all = {-1};  // x ^ all is -1 - x, half by half
  return max_halves(a ^ all, b ^ all) ^ all;
}

}  // namespace forwardpass::FORWARDPASS_ISA
