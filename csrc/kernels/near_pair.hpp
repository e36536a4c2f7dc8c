// SPDX-License-Identifier: Apache-2.0
// Numbers that an epilogue leaves in terms of bfloat16, where all of them are finite and none is very large: what
// store_terms (terms.hpp) stores, in fewer operations. Whoever uses it looks at the numbers beside, and calls that for
// the others.
#pragma once
#include "halves.hpp"
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
  Bounds(Vec from, Vec to) : low(from), high(to) {}

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

// The pair of the nearest bfloat16 numbers, of two the larger in magnitude, where neither overflows: within `Bounds`,
// or looked at by `Largest`, and no NaN of all bits.
FP_INLINE IVec near_pair(Vec low, Vec high) {
  const IVec half = iset1(0x8000);
  return upper_halves(bits(low) + half, bits(high) + half);
}

// Bounds of bfloat16 numbers, which sort as integers do but for the order of those below zero: Relu, Clip from zero or
// a larger number on, or none. Rounding keeps the order, so that it comes first. Zeros lose their sign, which no sum
// that begins with zero shows.
class WordBounds {
 public:
  template <class Params>
  static bool fit(const Params& p) {
    return p.activation != k_clip || p.alpha >= 0.0f;
  }

  template <class Params>
  explicit WordBounds(const Params& p)
      : low_(twice(p.activation == k_clip   ? p.alpha + 0.0f
                   : p.activation == k_relu ? 0.0f
                                            : -0.0f)),
        high_(p.activation == k_clip && p.beta < kMost ? twice(p.beta) : iset1(0x7fff7fff)) {}

  IVec apply(IVec words) const { return min_halves(high_, max_halves(low_, words)); }

 private:
  static constexpr float kMost = 0x1.fep127f;

  static IVec twice(float x) {
    const IVec word = bits(nearest_term(set1(x)));
    return upper_halves(word, word);
  }

  IVec low_, high_;
};

// The largest magnitude of bfloat16 numbers.
struct Largest {
  IVec words = iset1(0);

  void see(IVec pair) { words = max_halves(words, pair & iset1(0x7fff7fff)); }
  // Whether they are finite, and what `both` has seen. An infinity and a NaN have the largest exponent.
  bool finite(Finite both = {}) const {
    both.see(from_bits(shift_left<16>(words)));
    both.see(from_bits(high_half(words)));
    return both.all();
  }
};

// The pairs of all terms of results of `a` and `b`, which have been seen by `finite` if it is `all` afterwards.
template <int kTerms>
FP_INLINE void store_near(Vec a, Vec b, Vec low, Vec high, float* out, Finite& finite) {
  if constexpr (kTerms == 1) {
    finite.see(a);
    finite.see(b);
    store(out, from_bits(near_pair(low, high)));
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
