// SPDX-License-Identifier: Apache-2.0
// Vector functions derived from the primitives of vec.hpp: the elementary ones (math.hpp, pow.hpp) and, below, the
// activations of unary.def that are more than one of them. The same sequence of operations on every ISA, so the
// same bits.
//
// min() and max() give their second operand where either is NaN, so `max(zero(), x)` keeps a NaN of x. Infinities
// give what the operator's formula in ONNX gives in IEEE arithmetic: Gelu, Silu and Mish of -inf are NaN.
#pragma once
#include "math.hpp"
#include "pow.hpp"
#include "trigonometry.hpp"

namespace forwardpass::FORWARDPASS_ISA {

FP_INLINE Vec clamp(Vec x, Vec low, Vec high) { return min(high, max(low, x)); }

// 1 / (1 + e^-x) and one Newton step with the part of 1 + e^-x that its rounding dropped: the step hides behind the
// division, which is slower. Below -88, where the result is denormal, the sum stays finite for it.
FP_INLINE Vec sigmoid(Vec x) {
  const Vec one = set1(1.0f);
  const ExpParts<Vec> p = exp_parts(min(set1(88.0f), neg(x)));
  const Vec e = expm1_small(p.r);
  const Vec start = p.scale + one;
  const Vec sum = fma(e, p.scale, start);
  const Vec rest = fma(e, p.scale, start - sum);
  const Vec y = one / sum;
  return fma(fnma(y, rest, fnma(y, sum, one)), y, y);
}

FP_INLINE Vec hard_sigmoid(Vec x, Vec alpha, Vec beta) { return clamp(fma(alpha, x, beta), zero(), set1(1.0f)); }

// x (x + 3) / 6 inside: the sum is exact near the zero at -3.
FP_INLINE Vec hard_swish(Vec x) { return x * (clamp(x + set1(3.0f), zero(), set1(6.0f)) * set1(1.0f / 6.0f)); }

FP_INLINE Vec softplus(Vec x) { return max(zero(), x) + log1p_unit(exp(neg(abs(x)))); }

FP_INLINE Vec softsign(Vec x) { return x / (set1(1.0f) + abs(x)); }

FP_INLINE Vec sign(Vec x) {
  const Vec one = set1(1.0f);
  return select(x == zero(), zero(), select(is_nan(x), x, copysign(one, x)));
}

FP_INLINE Vec shrink(Vec x, Vec bias, Vec threshold) {
  return select(x < neg(threshold), x + bias, select(x > threshold, x - bias, zero()));
}

// x / (1 + e^-ax)
FP_INLINE Vec swish(Vec x, Vec alpha) { return x / exp_plus_one(neg(alpha * x)); }
FP_INLINE Vec silu(Vec x) { return x / exp_plus_one(neg(x)); }

// tanh(log(1 + e)) = n / (n + 2) with n = e (e + 2), and e = e^x is not rounded before its product and its sum. It is
// 1 in float32 from x = 20 on.
FP_INLINE Vec mish(Vec x) {
  const Vec two = set1(2.0f);
  const ExpParts<Vec> p = exp_parts(min(set1(20.0f), x));
  const Vec e = expm1_small(p.r);
  const Vec sum = fma(e, p.scale, p.scale + two);
  const Vec n = fma(e, sum, sum) * p.scale;
  return x * (n / (n + two));
}

// The normal distribution's tail Phi(-a) for a < 1.375, 1/2 - c a - a Q(a^2) with c = 1 / sqrt(2 pi): of the three
// terms only the last is rounded before the sum; fit 1.1e-9.
FP_INLINE Vec normal_tail_near(Vec a) {
  const Vec q = polynomial(a * a, -1.585481613e-8f, -6.649030745e-2f, 9.973195381e-3f, -1.186500653e-3f,
                           1.144308553e-4f, -8.770371096e-6f, 4.225767611e-7f);
  return fnma(a, q, fnma(a, set1(3.989422917e-1f), set1(0.5f)));
}

// e^(a^2 / 2) Phi(-a) for a >= 1.375, u P(u) with u = 1 / (a + 2); fit 7.6e-9 up to 13.5, where x Phi(x) is below every
// normal number. The error of u counts up to 1.7 times, so u gets back what the sum's rounding dropped.
FP_INLINE Vec normal_tail_far(Vec a) {
  const Vec one = set1(1.0f), two = set1(2.0f);
  const Vec sum = a + two;
  const Vec inverse = one / sum;
  const Vec u = fma(fnma(inverse, a - (sum - two), fnma(inverse, sum, one)), inverse, inverse);
  return u * polynomial(u, 3.989511430e-1f, 7.972611189e-1f, 1.215307474e+0f, 4.965516627e-1f, 9.505560994e-1f,
                        -2.459857941e+1f, 5.320182800e+1f, -3.692203522e+1f);
}

// x Phi(x), as x Phi(-|x|) for negative x and x - x Phi(-|x|) otherwise: the relative error is small for negative x
// too, where 1 + erf(x / sqrt(2)) would lose all digits. The exponent takes both halves of the square, and x is
// multiplied before the scale of the exponential, so that no factor is denormal before the product is.
FP_INLINE Vec gelu(Vec x) {
  const Vec a = min(set1(14.0f), abs(x));
  const Mask negative = x < zero();
  const Vec factor = select(negative, x, a);
  const Vec square = a * a;
  const Vec half = set1(-0.5f);
  const ExpParts<Vec> e = exp_parts(square * half, fma(a, a, neg(square)) * half);
  const Vec product = factor * normal_tail_far(a);
  const Vec far = fma(product, expm1_small(e.r), product) * e.scale;
  const Vec y = select(a < set1(1.375f), factor * normal_tail_near(a), far);
  return select(negative, y, x - y);
}

// x (1 + tanh(c (x + 0.044715 x^3))) / 2 with c = sqrt(2 / pi), as x / (1 + e^-2c(...)).
FP_INLINE Vec gelu_tanh(Vec x) {
  const Vec inner = fma(x * x, set1(0.0713548163f), set1(1.59576912f));
  return x / exp_plus_one(neg(x * inner));
}

}  // namespace forwardpass::FORWARDPASS_ISA
