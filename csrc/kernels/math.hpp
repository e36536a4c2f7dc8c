// SPDX-License-Identifier: Apache-2.0
// Elementary functions of Vec: range reduction, then a polynomial. The same sequence of operations on every ISA.
//
// The coefficients are minimax fits (Lawson's iteration on 160 Chebyshev nodes in 40-digit arithmetic), rounded to
// float32 one after another from the lowest power with the rest refitted each time. "fit" below is the largest
// relative error of the rounded polynomial before any rounding of its evaluation. Errors of the functions are in
// units in the last place (ULP) against float64.
#pragma once
#include "vec.hpp"

namespace forwardpass::FORWARDPASS_ISA {

FP_INLINE Vec power_from_bits(Vec sum) { return from_bits(shift_left<23>(bits(sum))); }

// c0 + c1 x + c2 x^2 + ...
template <class V>
FP_INLINE V polynomial(V, float c0) {
  return V{set1(c0)};
}
template <class V, class... Rest>
FP_INLINE V polynomial(V x, float c0, Rest... rest) {
  return fma(polynomial(x, rest...), x, V{set1(c0)});
}

inline constexpr float kInf = __builtin_inff();
inline constexpr float kSmallestNormal = 0x1p-126f;
inline constexpr float kLn2Hi = 0x1.62e4p-1f;  // 15 bits: its product with an exponent is exact
inline constexpr float kLn2Lo = 1.428606820e-6f;
inline constexpr float kLog2e = 1.44269504f;

// round(x) as a float and 2^round(x), for x >= -127. Adding kRounder leaves the biased exponent in the lowest bits of
// the sum. It stops at 127, so that every scale but 2^-127, which is zero here, is a normal number: with x in
// [127.5, 128) the remainder grows up to 1, and beyond it the polynomial overflows by itself.
template <class V>
struct PowerOfTwo {
  V exponent;
  V scale;
};
inline constexpr float kRounder = 0x1.8p23f + 127.0f;
template <class V>
FP_INLINE PowerOfTwo<V> power_of_two(V x_plus_rounder) {
  const V sum = min(x_plus_rounder, V{set1(kRounder + 127.0f)});
  return {sum - V{set1(kRounder)}, power_from_bits(sum)};
}

// (e^r - 1 - r) / r^2 for r in [-ln2 / 2, ln2]; fit of e^r - 1: 5.1e-9.
template <class V>
FP_INLINE V exp_tail(V r) {
  return polynomial(r, 4.999999702e-1f, 1.666669250e-1f, 4.166768119e-2f, 8.327567950e-3f, 1.385173178e-3f,
                    2.303443762e-4f);
}

// e^(x + low) = scale * e^r, |low| <= half an ULP of x. From x = -88 down the scale is zero.
template <class V>
struct ExpParts {
  V r;
  V scale;
};
template <class V>
FP_INLINE ExpParts<V> exp_parts(V x) {
  x = max(V{set1(-88.0f)}, x);
  const PowerOfTwo<V> p = power_of_two(fma(x, V{set1(kLog2e)}, V{set1(kRounder)}));
  return {fnma(p.exponent, V{set1(kLn2Lo)}, fnma(p.exponent, V{set1(kLn2Hi)}, x)), p.scale};
}
FP_INLINE ExpParts<Vec> exp_parts(Vec x, Vec low) {
  x = max(set1(-88.0f), x);
  const PowerOfTwo<Vec> p = power_of_two(fma(x, set1(kLog2e), set1(kRounder)));
  return {fnma(p.exponent, set1(kLn2Lo), fnma(p.exponent, set1(kLn2Hi), x) + low), p.scale};
}

// e^x. Results below the smallest normal number are zero.
FP_INLINE Vec exp(Vec x) {
  const ExpParts<Vec> p = exp_parts(x);
  const Vec one = set1(1.0f);
  return fma(fma(exp_tail(p.r), p.r, one), p.r, one) * p.scale;
}

// e^r - 1
template <class V>
FP_INLINE V expm1_small(V r) {
  return fma(exp_tail(r), r * r, r);
}

// e^x - 1, accurate near zero too.
template <class V>
FP_INLINE V expm1(V x) {
  const ExpParts<V> p = exp_parts(x);
  return fma(expm1_small(p.r), p.scale, p.scale - V{set1(1.0f)});
}

// e^x + 1 with the rounding of the sum alone: the exponential is not rounded before it.
template <class V>
FP_INLINE V exp_plus_one(V x) {
  const ExpParts<V> p = exp_parts(x);
  return fma(expm1_small(p.r), p.scale, p.scale + V{set1(1.0f)});
}

// log(1 + f) + k ln2 for f in [sqrt(1/2) - 1, sqrt(2) - 1] and an integer k; fit of log(1 + f): 5.8e-9.
FP_INLINE Vec log_sum(Vec f, Vec k) {
  const Vec square = f * f;
  const Vec cube = polynomial(f, 3.333333135e-1f, -2.500081956e-1f, 2.000124156e-1f, -1.662340909e-1f, 1.420158297e-1f,
                              -1.315961629e-1f, 1.276218295e-1f, -7.636362314e-2f);
  const Vec low = fma(square * f, cube, fma(square, set1(-0.5f), k * set1(kLn2Lo)));
  return fma(k, set1(kLn2Hi), f + low);
}

// x = (1 + f) 2^k with f as in log_sum, for normal positive x.
struct Split {
  Vec f;
  Vec k;
};
FP_INLINE Split split(Vec x) {
  constexpr std::int32_t kSqrtHalf = 0x3f3504f3;
  const IVec k = shift_right<23>(bits(x) - iset1(kSqrtHalf));
  return {from_bits(bits(x) - shift_left<23>(k)) - set1(1.0f), to_float(k)};
}

// Denormal numbers count as zero.
FP_INLINE Vec log(Vec x) {
  const Split s = split(x);
  const Vec y = select(x < set1(kInf), log_sum(s.f, s.k), x);
  const Vec outside = select(x < zero(), set1(__builtin_nanf("")), set1(-kInf));
  return select(x < set1(kSmallestNormal), outside, y);
}

// log(1 + x) for x in [0, 1], where 1 + x needs no correction: above sqrt(2) - 1 its half is taken in one rounding.
FP_INLINE Vec log1p_unit(Vec x) {
  const Mask upper = x > set1(0.414213562f);
  const Vec f = select(upper, fma(x, set1(0.5f), set1(-0.5f)), x);
  return log_sum(f, select(upper, set1(1.0f), zero()));
}

// An odd polynomial (fit 4.5e-9) below 0.625, 1 - 2 / (e^2x + 1) above.
FP_INLINE Vec tanh(Vec x) {
  const Vec a = abs(x);
  const Vec square = x * x;
  const Vec near = fma(
      a * square,
      polynomial(square, -3.333328068e-1f, 1.333141178e-1f, -5.373743549e-2f, 2.063232102e-2f, -5.698029883e-3f), a);
  const Vec one = set1(1.0f);
  const Vec far = one - set1(2.0f) / exp_plus_one(a + a);
  return copysign(select(a < set1(0.625f), near, far), x);
}

// An odd polynomial (fit 9.0e-10) below 0.9375; above it 1 - e^h with h a fit of log(erfc) (1.5e-9 of erf) up to 4,
// where erf is 1 in float32.
FP_INLINE Vec erf(Vec x) {
  const Vec a = min(set1(4.0f), abs(x));
  const Vec square = a * a;
  const Vec near = fma(a,
                       polynomial(square, 1.283791661e-1f, -3.761262894e-1f, 1.128362566e-1f, -2.685573697e-2f,
                                  5.192438141e-3f, -8.050384349e-4f, 8.000279195e-5f),
                       a);
  const Vec h = polynomial(a, -2.234664134e-4f, -1.127561450e+0f, -6.373735070e-1f, -1.037645340e-1f, 2.214672416e-2f,
                           -3.023169469e-3f, 1.938991190e-4f);
  const Vec far = set1(1.0f) - exp(h);
  return copysign(select(a < set1(0.9375f), near, far), x);
}

}  // namespace forwardpass::FORWARDPASS_ISA
