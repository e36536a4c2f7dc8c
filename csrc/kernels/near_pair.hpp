// SPDX-License-Identifier: Apache-2.0
// Numbers that an epilogue leaves in terms of bfloat16, where all of them are finite and none is very large: what
// store_terms (terms.hpp) stores, in fewer operations. Whoever uses it looks at the numbers beside, and calls that for
// the others.
#pragma once
#include "terms.hpp"

namespace forwardpass::FORWARDPASS_ISA {

// Relu or Clip or nothing, and the largest numbers; of one term those that do not round to an infinity.
struct Bounds {
  Vec low, high;

  template <class Params>
  explicit Bounds(const Params& p, float most = 0x1.fep127f) {
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
  // With what the first term of its result leaves, which is not finite where that result rounds to no number. Where the
  // product overflows, so does what is seen: then the numbers were finite, and large.
  void see(Vec x, Vec rest) { sticky = fma(x, rest, sticky); }
  bool all() const { return !any(~(abs(sticky) < set1(kInf))); }
};

// The pair of the nearest bfloat16 numbers, of two the larger in magnitude, within `Bounds`.
FP_INLINE Vec near_pair(Vec low, Vec high) {
  const IVec half = iset1(0x8000);
  return from_bits(high_half(bits(high) + half) | (shift_right<16>(bits(low) + half) & iset1(0xffff)));
}

// The pairs of all terms of results of `a` and `b`, which have been seen by `finite` if it is `all` afterwards.
template <int kTerms>
FP_INLINE void store_near(Vec a, Vec b, Vec low, Vec high, float* out, Finite& finite) {
  if constexpr (kTerms == 1) {
    finite.see(a);
    finite.see(b);
    store(out, near_pair(low, high));
  } else {
    Vec low_term = nearest_term(low), high_term = nearest_term(high);
    const Vec low_rest = low - low_term, high_rest = high - high_term;
    finite.see(a, low_rest);
    finite.see(b, high_rest);
    store(out, pair_of(low_term, high_term));
    low_term = nearest_term(low_rest);
    high_term = nearest_term(high_rest);
    store(out + kPairs, pair_of(low_term, high_term));
    if constexpr (kTerms > 2) store(out + 2 * kPairs, pair_of(low_rest - low_term, high_rest - high_term));
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
