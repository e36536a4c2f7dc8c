// SPDX-License-Identifier: Apache-2.0
// Gelu without an exponential or a division, for epilogues of products.
#pragma once
#include "math.hpp"

namespace forwardpass::FORWARDPASS_ISA {

// x Phi(x) as max(0, x) - a Phi(-a) with a = |x|, and Phi(-a) as the square of a polynomial (fit 2.3e-8 of the result,
// relative to a where that is above 1) up to 5.5, where it meets zero. Its error is at most 1e-7 of x, and in the mean
// below that of x (1 + erf(x / sqrt(2))) / 2 in float32; gelu() is accurate relative to small results too. Of -inf it
// makes -0.
template <class V>
FP_INLINE V near_gelu(V x) {
  const V a = min(abs(x), V{set1(5.5f)});
  const V root = polynomial(a, 7.071067691e-1f, -2.820941210e-1f, -5.627411976e-2f, 2.456847019e-2f, 7.613866124e-3f,
                            -2.247825032e-3f, -3.989677352e-4f, -8.179284487e-5f, 1.723631431e-4f, -5.749279808e-5f,
                            9.050560948e-6f, -7.226685170e-7f, 2.372752483e-8f);
  return fnma(a, root * root, max(V{zero()}, x));
}

}  // namespace forwardpass::FORWARDPASS_ISA
