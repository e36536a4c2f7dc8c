// SPDX-License-Identifier: Apache-2.0
// Reductions of several rows at once: with a vector for the results of kLanes rows, their last folds take no more time
// than that of one row.
#pragma once
#include "lanes.hpp"
#include "transpose.hpp"

namespace forwardpass::FORWARDPASS_ISA {

// The lanes of kLanes rows, one row after another, folded by the tree of combine_lanes.
template <class Fold>
FP_INLINE Vec fold_rows(const float* lanes) {
  Vec v[kVirtualLanes];
#pragma GCC unroll 4
  for (int part = 0; part < kVirtualLanes; part += kLanes) {
    Vec square[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) square[i] = load(lanes + i * kVirtualLanes + part);
    transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) v[part + i] = square[i];
  }
#pragma GCC unroll 4
  for (int half = kVirtualLanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int j = 0; j < half; ++j) v[j] = Fold::apply(v[j], v[j + half]);
  }
  return v[0];
}

}  // namespace forwardpass::FORWARDPASS_ISA
