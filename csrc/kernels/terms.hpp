// SPDX-License-Identifier: Apache-2.0
// float32 numbers as sums of bfloat16 numbers, largest first. Three terms of 8 bits each hold all 24 bits of a float32,
// so their sum is exact but for what falls below the normal numbers. Terms are rounded, not cut off, so that what a
// product of two such sums leaves out has either sign.
//
// Tiles take pairs: word i of a block of 32 numbers has number i in its low half and number i + 16 in its high half,
// which takes no shuffles.
#pragma once
#include "halves.hpp"
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr int kPairs = 16;               // words of a block
inline constexpr int kBlock = 2 * kPairs;       // numbers of a block
inline constexpr int kTileWords = 16 * kPairs;  // words of a tile of 16 rows

FP_INLINE IVec high_half(IVec word) { return word & iset1(static_cast<std::int32_t>(0xffff0000u)); }

// The bfloat16 nearest to x, and of two the larger in magnitude.
FP_INLINE Vec nearest_term(Vec x) { return from_bits(high_half(bits(x) + iset1(0x8000))); }

// The first term, and in `rest` what is left of x. Rounding must not make an infinity of a finite number, nor anything
// else of an infinity or NaN: their other terms are zero.
FP_INLINE Vec first_term(Vec x, Vec& rest) {
  Vec term = nearest_term(x);
  const Mask large = ~(abs(x) < set1(0x1.ffp127f));
  rest = x - term;
  if (any(large)) [[unlikely]] {
    const Vec cut = from_bits(high_half(bits(x)));
    const Vec quiet = from_bits(high_half(bits(x)) | iset1(0x00400000));
    const Mask finite = abs(x) <= set1(0x1.fffffep127f);
    term = select(large, select(is_nan(x), quiet, cut), term);
    rest = select(finite, x - term, zero());
  }
  return term;
}

FP_INLINE Vec pair_of(Vec low, Vec high) { return from_bits(upper_halves(bits(low), bits(high))); }

// The pairs of the terms of low and high, `stride` words from one term to the next.
template <int kTerms>
FP_INLINE void store_terms(Vec low, Vec high, float* out, std::int64_t stride) {
  Vec low_rest, high_rest;
  Vec low_term = first_term(low, low_rest), high_term = first_term(high, high_rest);
  store(out, pair_of(low_term, high_term));
  if constexpr (kTerms > 1) {
    low_term = nearest_term(low_rest);
    high_term = nearest_term(high_rest);
    store(out + stride, pair_of(low_term, high_term));
  }
  if constexpr (kTerms > 2) store(out + 2 * stride, pair_of(low_rest - low_term, high_rest - high_term));
}

// The first `valid` of kLanes numbers, then zeros.
FP_INLINE Vec load_valid(const float* p, std::int64_t valid) {
  return valid >= kLanes ? load(p) : valid > 0 ? load(p, static_cast<int>(valid)) : zero();
}

// A block of `valid` numbers, filled up with zeros.
template <int kTerms>
FP_INLINE void store_block(const float* in, std::int64_t valid, float* out, std::int64_t stride) {
  for (int i = 0; i < kPairs; i += kLanes) {
    const Vec low = load_valid(in + i, valid - i), high = load_valid(in + i + kPairs, valid - i - kPairs);
    store_terms<kTerms>(low, high, out + i, stride);
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
