// SPDX-License-Identifier: Apache-2.0
// How brgemm_split makes pairs of results the operand of the next product in one pass: what becomes of two sums, and
// whether all were such that it may.
#pragma once
#include "near_pair.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// One term, rounded before it is bounded.
struct OneTerm {
  WordBounds bounds;
  Largest largest{};
  Finite added{};

  // Of float32 numbers that are added to the sums.
  FP_INLINE void see(OneTerm& t, Vec low, Vec high) {
    t.added.see(low);
    t.added.see(high);
  }
  FP_INLINE void put(OneTerm& t, Vec low, Vec high, float* out) {
    const IVec words = near_pair(low, high);
    t.largest.see(words);
    store(out, from_bits(t.bounds.apply(words)));
  }
  bool finite() const { return largest.finite(added); }
};

// Any number of terms of an activation of the sums.
template <int kTerms, class Act>
struct AllTerms {
  Act act;
  Finite seen{};

  FP_INLINE void see(AllTerms&, Vec, Vec) {}
  FP_INLINE void put(AllTerms& t, Vec low, Vec high, float* out) {
    store_near<kTerms>(low, high, t.act(low), t.act(high), out, t.seen);
  }
  bool finite() const { return seen.all(); }
};

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
