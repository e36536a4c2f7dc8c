// SPDX-License-Identifier: Apache-2.0
// x^y of Vec, through a logarithm of about 31 correct bits: an error of the logarithm is multiplied by up to 128.
#pragma once
#include "math.hpp"

namespace forwardpass::FORWARDPASS_ISA {

// high + low, |low| <= half an ULP of high.
struct TwoFloats {
  Vec high;
  Vec low;
};

// log2(x) for normal positive x: x = 2^k m, s = (m - 1) / (m + 1), log2(m) = 2 / ln2 (s + s^3 P(s^2)), fit 2.5e-11.
FP_INLINE TwoFloats log2_two(Vec x) {
  const Split part = split(x);
  const Vec m = part.f + set1(1.0f);  // exact, f came from it
  const Vec d = m + set1(1.0f);
  const Vec d_low = m - (d - set1(1.0f));
  const Vec inverse = set1(1.0f) / d;
  const Vec s = part.f * inverse;
  const Vec s_low = fnma(s, d_low, fnma(s, d, part.f)) * inverse;
  const Vec t = s * s;
  const Vec p = polynomial(t, 3.333333135e-1f, 2.000048608e-1f, 1.424939483e-1f, 1.213955656e-1f) * t;
  constexpr float kScale = 0x1.715476p+1f;  // 2 / ln2
  constexpr float kScaleLow = 3.851925982e-8f;
  const Vec v = s * set1(kScale);
  const Vec v_low = fma(s, set1(kScale), neg(v)) + fma(s, set1(kScaleLow), s_low * set1(kScale));
  const Vec sum = part.k + v;  // |v| <= 0.5, so this is an exact sum with the line below
  const Vec low = fma(v, p, v_low) + (v - (sum - part.k));
  const Vec high = sum + low;
  return {high, low - (high - sum)};
}

// 2^(high + low); fit of 2^r for r in [-0.5, 1]: 1.8e-9.
FP_INLINE Vec exp2_two(TwoFloats x) {
  const Vec high = max(set1(-127.0f), x.high);
  const PowerOfTwo<Vec> p = power_of_two(high + set1(kRounder));
  const Vec r = (high - p.exponent) + x.low;
  const Vec q = polynomial(r, 6.931471825e-1f, 2.402264923e-1f, 5.550420284e-2f, 9.618388489e-3f, 1.332365442e-3f,
                           1.535931660e-4f, 1.777174111e-5f);
  return fma(q, r, set1(1.0f)) * p.scale;
}

// NumPy's float32 power: x^0 = 1^y = 1 even for NaN; a negative x needs an integer y. Denormal numbers count as zero.
FP_INLINE Vec pow(Vec x, Vec y) {
  const Vec one = set1(1.0f), inf = set1(kInf), a = abs(x);
  const TwoFloats l = log2_two(a);
  const Mask usual = (a >= set1(kSmallestNormal)) & (a < inf);
  const Vec high = select(usual, l.high, select(a < one, neg(inf), a));
  const Vec product = high * y;
  // Beyond 256 the result is known, and infinities would make a NaN of the low part.
  const Vec product_low =
      select(usual & (abs(product) < set1(256.0f)), fma(l.low, y, fma(high, y, neg(product))), zero());
  Vec r = exp2_two({product, product_low});
  // |x| = 1 with infinite y; NaN stays.
  r = select((a == one) & (y == y), one, r);
  const Vec half = y * set1(0.5f);
  const Mask integer = round(y) == y;
  const Mask odd = integer & ~(round(half) == half);
  r = select(odd, copysign(r, x), r);
  r = select((x < zero()) & (a < inf) & ~integer, set1(__builtin_nanf("")), r);
  r = select(is_nan(x), x, select(is_nan(y), y, r));
  return select((x == one) | (y == zero()), one, r);
}

}  // namespace forwardpass::FORWARDPASS_ISA
