// SPDX-License-Identifier: Apache-2.0
// Trigonometric and hyperbolic functions of Vec, and their inverses; fits as in math.hpp.
#pragma once
#include "math.hpp"

namespace forwardpass::FORWARDPASS_ISA {

// |x| = quadrant * pi / 2 + high + low with |high| <= pi / 4 and a quadrant of 0, 1, 2 or 3.
struct Angle {
  Vec high;
  Vec low;
  Vec quadrant;
};

inline constexpr float kHalfPi = 0x1.921fb6p+0f;  // and the two floats that follow it
inline constexpr float kHalfPiLow = -0x1.777a5cp-25f;
inline constexpr float kHalfPiLowest = -0x1.ee59dap-50f;
inline constexpr float kPi = 2 * kHalfPi;
inline constexpr float kPiLow = 2 * kHalfPiLow;
inline constexpr float kLargeAngle = 0x1p17f;

// For |x| < kLargeAngle. The first product is subtracted without any rounding, whatever the quadrant: the difference is
// a multiple of the last bit of pi / 2. The second one is kept in two floats.
FP_INLINE Angle usual_angle(Vec x) {
  const Vec k = round(x * set1(0x1.45f306p-1f));
  const Vec first = fnma(k, set1(kHalfPi), x);
  const Vec product = k * set1(kHalfPiLow);
  const Vec product_low = fma(k, set1(kHalfPiLow), neg(product));
  const Vec sum = first - product;
  const Vec back = sum - first;
  const Vec sum_low = (first - (sum - back)) - (product + back);
  const Vec low = fnma(k, set1(kHalfPiLowest), sum_low - product_low);
  const Vec high = sum + low;
  const Vec quadrant = fnma(floor(k * set1(0.25f)), set1(4.0f), k);
  return {high, low - (high - sum), quadrant};
}

struct LargeAngle {
  float high;
  float low;
  float quadrant;
};

// For kLargeAngle <= x (Payne and Hanek, 1983): x = m 2^e, and of the binary digits of 2 / pi only those count that are
// neither multiples of 4 in the product nor below its 128 bits.
FP_INLINE LargeAngle large_angle(float x) {
  __extension__ using Wide = unsigned __int128;
  constexpr std::uint64_t kTwoOverPi[] = {0, 0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041,
                                          0xfe5163abdebbc561};
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  if (bits >= 0x7f800000) return {__builtin_nanf(""), 0.0f, 0.0f};
  const std::uint64_t mantissa = (bits & 0x7fffff) | 0x800000;
  const std::uint32_t start = (bits >> 23) - 150 + 62;  // of the 128 digits, in a table that begins 64 digits early
  const std::uint64_t* word = kTwoOverPi + start / 64;
  const std::uint32_t shift = start % 64;
  const Wide digits = (Wide{word[0]} << 64 | word[1]) << shift | (shift ? word[2] >> (64 - shift) : 0);
  const Wide turns = digits * mantissa;  // the fraction of a turn, times 2^128
  const auto quadrant = static_cast<std::uint32_t>((turns + (Wide{1} << 125)) >> 126);
  const auto rest = static_cast<std::int64_t>(static_cast<std::uint64_t>((turns - (Wide{quadrant} << 126)) >> 64));
  const double angle = static_cast<double>(rest) * 0x1.921fb54442d18p-62;  // pi / 2 * 2^-62
  const float high = static_cast<float>(angle);
  return {high, static_cast<float>(angle - static_cast<double>(high)), static_cast<float>(quadrant & 3)};
}

FP_INLINE Angle angle_of(Vec x) {
  const Vec a = abs(x);
  const Mask large = a >= set1(kLargeAngle);
  Angle angle = usual_angle(select(large, zero(), a));
  if (!any(large)) return angle;
  float in[kLanes], high[kLanes], low[kLanes], quadrant[kLanes];
  store(in, a);
  for (int i = 0; i < kLanes; ++i) {
    const LargeAngle found = in[i] >= kLargeAngle ? large_angle(in[i]) : LargeAngle{0.0f, 0.0f, 0.0f};
    high[i] = found.high;
    low[i] = found.low;
    quadrant[i] = found.quadrant;
  }
  return {select(large, load(high), angle.high), select(large, load(low), angle.low),
          select(large, load(quadrant), angle.quadrant)};
}

// sin(high + low); fit 4.0e-9.
FP_INLINE Vec sin_near(const Angle& a) {
  const Vec square = a.high * a.high;
  const Vec rest = fnma(square * set1(0.5f), a.low, a.low);
  const Vec p = polynomial(square, -1.666665524e-1f, 8.332189173e-3f, -1.951829181e-4f);
  return a.high + fma(a.high * square, p, rest);
}

// cos(high + low); fit 1.2e-10.
FP_INLINE Vec cos_near(const Angle& a) {
  const Vec square = a.high * a.high;
  const Vec half = square * set1(0.5f);
  const Vec one = set1(1.0f);
  const Vec start = one - half;
  const Vec p = polynomial(square, 4.166664556e-2f, -1.388731063e-3f, 2.443256744e-5f);
  return start + (fma(square * square, p, (one - start) - half) - a.high * a.low);
}

FP_INLINE Mask is_odd(Vec quadrant) { return (quadrant == set1(1.0f)) | (quadrant == set1(3.0f)); }

// y with its sign changed where x is negative.
FP_INLINE Vec with_sign_of(Vec y, Vec x) { return from_bits(bits(y) ^ bits(copysign(zero(), x))); }

FP_INLINE Vec sin(Vec x) {
  const Angle a = angle_of(x);
  const Vec y = select(is_odd(a.quadrant), cos_near(a), sin_near(a));
  return with_sign_of(select(a.quadrant >= set1(2.0f), neg(y), y), x);
}

FP_INLINE Vec cos(Vec x) {
  const Angle a = angle_of(x);
  const Vec y = select(is_odd(a.quadrant), sin_near(a), cos_near(a));
  return select((a.quadrant == set1(1.0f)) | (a.quadrant == set1(2.0f)), neg(y), y);
}

FP_INLINE Vec tan(Vec x) {
  const Angle a = angle_of(x);
  const Mask odd = is_odd(a.quadrant);
  const Vec s = sin_near(a), c = cos_near(a);
  return with_sign_of(select(odd, neg(c), s) / select(odd, s, c), x);
}

// For t in [0, 1]; fit 2.6e-9.
FP_INLINE Vec atan_unit(Vec t) {
  const Vec square = t * t;
  const Vec p = polynomial(square, -3.333329856e-1f, 1.999853104e-1f, -1.426405460e-1f, 1.095120385e-1f,
                           -8.400587738e-2f, 5.790878087e-2f, -3.112942167e-2f, 1.088872086e-2f, -1.787858666e-3f);
  return fma(t * square, p, t);
}

FP_INLINE Vec atan(Vec x) {
  const Vec a = abs(x), one = set1(1.0f);
  const Mask above = a > one;
  const Vec y = atan_unit(select(above, one / a, a));
  return copysign(select(above, set1(kHalfPi) - (y - set1(kHalfPiLow)), y), x);
}

// asin(t) - t for t in [0, 0.5] and its square; fit of asin 2.9e-10.
FP_INLINE Vec asin_rest(Vec t, Vec square) {
  const Vec p = polynomial(square, 1.666665971e-1f, 7.500520349e-2f, 4.451397806e-2f, 3.183152899e-2f, 1.435224246e-2f,
                           3.763299435e-2f);
  return t * square * p;
}

// Above 1/2, where 1 - a is exact, asin(a) = pi / 2 - 2 asin(sqrt((1 - a) / 2)). NaN beyond 1, as the root.
FP_INLINE Vec asin(Vec x) {
  const Vec a = abs(x);
  const Mask above = a > set1(0.5f);
  const Vec half = fnma(a, set1(0.5f), set1(0.5f));
  const Vec t = select(above, sqrt(half), a);
  const Vec y = t + asin_rest(t, select(above, half, a * a));
  return copysign(select(above, set1(kHalfPi) - fma(y, set1(2.0f), set1(-kHalfPiLow)), y), x);
}

FP_INLINE Vec acos(Vec x) {
  const Vec a = abs(x), two = set1(2.0f);
  const Mask above = a > set1(0.5f);
  const Vec half = fnma(a, set1(0.5f), set1(0.5f));
  const Vec t = select(above, sqrt(half), x);
  const Vec rest = asin_rest(t, select(above, half, a * a));
  const Vec y = t + rest;
  const Vec middle = set1(kHalfPi) - (t + (rest - set1(kHalfPiLow)));
  const Vec far = select(x < zero(), set1(kPi) - fma(y, two, set1(-kPiLow)), y + y);
  return select(above, far, middle);
}

// e^a / 2 for a >= 0, finite as long as it is.
FP_INLINE Vec half_exp(Vec a) {
  a = min(set1(100.0f), a);
  constexpr float kLn2 = 0x1.62e43p-1f, kLn2Rest = -1.9046542e-9f;
  const Vec high = a - set1(kLn2);
  const Vec back = high - a;
  const Vec low = (a - (high - back)) - (set1(kLn2) + back);
  const ExpParts<Vec> p = exp_parts(high, low - set1(kLn2Rest));
  return fma(expm1_small(p.r), p.scale, p.scale);
}

FP_INLINE Vec cosh(Vec x) {
  const Vec e = half_exp(abs(x));
  return e + set1(0.25f) / e;
}

// An odd polynomial (fit 3.0e-10) below 1.
FP_INLINE Vec sinh(Vec x) {
  const Vec a = abs(x);
  const Vec square = a * a;
  const Vec p = polynomial(square, 1.666666716e-1f, 8.333310485e-3f, 1.984289411e-4f, 2.782229103e-6f);
  const Vec near = fma(a * square, p, a);
  const Vec e = half_exp(a);
  return copysign(select(a < set1(1.0f), near, e - set1(0.25f) / e), x);
}

// log(1 + x) for x >= 0, with what the sum's rounding dropped.
FP_INLINE Vec log1p_positive(Vec x) {
  const Vec one = set1(1.0f);
  const Vec sum = one + x;
  const Vec dropped = select(x < one, x - (sum - one), one - (sum - x));
  const Split s = split(sum);
  const Vec scale = from_bits(shift_left<23>(iset1(127) - to_int(s.k)));
  return select(x < set1(kInf), log_sum(fma(dropped, scale, s.f), s.k), x);
}

// log(2 x) for large x.
FP_INLINE Vec log_of_double(Vec x) {
  const Split s = split(x);
  return select(x < set1(kInf), log_sum(s.f, s.k + set1(1.0f)), x);
}

// From here on x and the root of x^2 +- 1 are equal in float32.
inline constexpr float kFarOut = 0x1p13f;

FP_INLINE Vec asinh(Vec x) {
  const Vec a = abs(x), one = set1(1.0f);
  const Vec near = min(set1(kFarOut), a);
  const Vec square = near * near;
  const Vec u = near + square / (one + sqrt(one + square));
  return copysign(select(a < set1(kFarOut), log1p_positive(u), log_of_double(a)), x);
}

FP_INLINE Vec acosh(Vec x) {
  const Vec near = min(set1(kFarOut), x);
  const Vec t = near - set1(1.0f);
  const Vec y = log1p_positive(t + sqrt(fma(t, t, t + t)));
  const Vec all = select(x < set1(kFarOut), y, log_of_double(x));
  return select(x < set1(1.0f), set1(__builtin_nanf("")), all);
}

// log((1 + x) / (1 - x)) / 2
FP_INLINE Vec atanh(Vec x) {
  const Vec a = abs(x), one = set1(1.0f);
  const Vec y = log1p_positive((a + a) / (one - a)) * set1(0.5f);
  return copysign(select(a > one, set1(__builtin_nanf("")), y), x);
}

}  // namespace forwardpass::FORWARDPASS_ISA
