// SPDX-License-Identifier: Apache-2.0
// Numbers that an epilogue leaves in one term of bfloat16, where all of them are finite: what store_terms<1>
// (terms.hpp) stores, in a third of the operations. Whoever uses it looks at the numbers beside, and calls that for the
// others.
#pragma once
#include "terms.hpp"

namespace forwardpass::FORWARDPASS_ISA {

// Relu or Clip or nothing, and the largest numbers that do not round to an infinity.
struct Bounds {
  Vec low, high;

  template <class Params>
  explicit Bounds(const Params& p) {
    const float most = 0x1.fep127f;
    const float from = p.activation == k_clip ? p.alpha : p.activation == k_relu ? 0.0f : -most;
    const float to = p.activation == k_clip ? p.beta : most;
    low = set1(from > -most ? from : -most);
    high = set1(to < most ? to : most);
  }

  Vec apply(Vec x) const { return min(high, max(low, x)); }
};

// Whether numbers were all finite.
struct Finite {
  Vec sticky = zero();

  void see(Vec x) { sticky = fma(x, zero(), sticky); }
  bool all() const { return !any(is_nan(sticky)); }
};

// The pair of the nearest bfloat16 numbers, of two the larger in magnitude, within `Bounds`.
FP_INLINE Vec near_pair(Vec low, Vec high) {
  const IVec half = iset1(0x8000);
  return from_bits(high_half(bits(high) + half) | (shift_right<16>(bits(low) + half) & iset1(0xffff)));
}

}  // namespace forwardpass::FORWARDPASS_ISA
