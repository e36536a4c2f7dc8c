// SPDX-License-Identifier: Apache-2.0
// Reductions over 16 virtual lanes. Element i goes to lane i mod 16, a lane folds its elements in increasing
// i, and lanes j and j + 8, then j + 4, j + 2, j + 1 are combined. The order is that of 16 lanes on every
// ISA, whatever its vector width, so the bits are the same.
#pragma once
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr int kVirtualLanes = 16;
inline constexpr int kLaneVecs = kVirtualLanes / kLanes;

// A fold: `identity` is the exact one (x op identity is x for every x, signed zeros and NaN included), and `term` what
// is folded of an element.
struct Plain {
  FP_INLINE Vec term(Vec x) { return x; }
};

struct SumFold : Plain {
  static constexpr float kIdentity = -0.0f;
  FP_INLINE Vec apply(Vec a, Vec b) { return a + b; }
  FP_INLINE float apply(float a, float b) { return a + b; }
};

// The first NaN that is met stays: max() and min() alone would drop a NaN in `a`.
struct MaxFold : Plain {
  static constexpr float kIdentity = -__builtin_inff();
  FP_INLINE Vec apply(Vec a, Vec b) { return select(a == a, max(a, b), a); }
  FP_INLINE float apply(float a, float b) { return a == a ? (a > b ? a : b) : a; }
};

struct MinFold : Plain {
  static constexpr float kIdentity = __builtin_inff();
  FP_INLINE Vec apply(Vec a, Vec b) { return select(a == a, min(a, b), a); }
  FP_INLINE float apply(float a, float b) { return a == a ? (a < b ? a : b) : a; }
};

struct ProductFold : Plain {
  static constexpr float kIdentity = 1.0f;
  FP_INLINE Vec apply(Vec a, Vec b) { return a * b; }
  FP_INLINE float apply(float a, float b) { return a * b; }
};

struct MagnitudeFold : SumFold {
  FP_INLINE Vec term(Vec x) { return abs(x); }
};

struct SquareFold : SumFold {
  FP_INLINE Vec term(Vec x) { return x * x; }
};

struct Lanes {
  Vec v[kLaneVecs];
};

template <class Fold>
FP_INLINE Lanes lanes_of() {
  Lanes lanes;
  for (Vec& v : lanes.v) v = set1(Fold::kIdentity);
  return lanes;
}

// 16 elements that start at lane 0.
template <class Fold>
FP_INLINE void fold_lanes(Lanes& lanes, const float* p) {
  for (int k = 0; k < kLaneVecs; ++k) lanes.v[k] = Fold::apply(lanes.v[k], Fold::term(load(p + k * kLanes)));
}

// The first n < 16 lanes only. The others keep their bits: a zero that a masked load puts there is no
// identity.
template <class Fold>
FP_INLINE void fold_lanes(Lanes& lanes, const float* p, int n) {
  alignas(64) static constexpr float kIota[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Vec count = set1(static_cast<float>(n));
  for (int k = 0; k < kLaneVecs; ++k) {
    const int rest = n - k * kLanes;
    if (rest <= 0) break;
    const Vec x = Fold::term(load(p + k * kLanes, rest < kLanes ? rest : kLanes));
    lanes.v[k] = select(load(kIota + k * kLanes) < count, Fold::apply(lanes.v[k], x), lanes.v[k]);
  }
}

// The tree. On plain floats: the upper half of a vector is not among the primitives, and one store with 16
// short loads is no slower than four rounds through memory.
template <class Fold>
FP_INLINE float combine_lanes(const Lanes& lanes) {
  alignas(64) float f[kVirtualLanes];
  for (int k = 0; k < kLaneVecs; ++k) store(f + k * kLanes, lanes.v[k]);
  float a[8];
  for (int j = 0; j < 8; ++j) a[j] = Fold::apply(f[j], f[j + 8]);
  for (int j = 0; j < 4; ++j) a[j] = Fold::apply(a[j], a[j + 4]);
  for (int j = 0; j < 2; ++j) a[j] = Fold::apply(a[j], a[j + 2]);
  return Fold::apply(a[0], a[1]);
}

}  // namespace forwardpass::FORWARDPASS_ISA
