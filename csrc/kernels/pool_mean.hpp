// SPDX-License-Identifier: Apache-2.0
// What pools divide the sum of a window by.
#pragma once
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {

// The number of taps, or its inverse where that is exact: then the product and the quotient are the same number, and
// the product is many times faster.
struct Divisor {
  Vec scale;
  bool inverse;

  explicit Divisor(std::int64_t taps) : inverse((taps & (taps - 1)) == 0) {
    const float n = static_cast<float>(taps);
    scale = set1(inverse ? 1.0f / n : n);
  }

  FP_INLINE Vec apply(const Divisor& d, Vec sum) { return d.inverse ? sum * d.scale : sum / d.scale; }
};

}  // namespace forwardpass::FORWARDPASS_ISA
