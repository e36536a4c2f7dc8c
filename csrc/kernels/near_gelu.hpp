// SPDX-License-Identifier: Apache-2.0
// Gelu without an exponential or a division, for epilogues of products.
#pragma once
#include "math.hpp"

namespace forwardpass::FORWARDPASS_ISA {

// x Phi(x) as max(0, x) - a Phi(-a) with a = |x|, and Phi(-a) as the square of a polynomial (fit 2.3e-8 of the result,
// relative to a where that is above 1) up to 5.5, where it meets zero. Its error is at most 1e-7 of x, and in the mean
// below that of x (1 + erf(x / sqrt(2))) / 2 in float32; gelu() is accurate relative to small results too. Of -inf it
// makes -0.
template <class V, class... Coefficients>
FP_INLINE V gelu_of_root(V x, float most, Coefficients... c) {
  const V a = min(abs(x), V{set1(most)});
  const V root = polynomial(a, c...);
  return fnma(a, root * root, max(V{zero()}, x));
}
template <class V>
FP_INLINE V near_gelu(V x) {
  return gelu_of_root(x, 5.5f, 7.071067691e-1f, -2.820941210e-1f, -5.627411976e-2f, 2.456847019e-2f, 7.613866124e-3f,
                      -2.247825032e-3f, -3.989677352e-4f, -8.179284487e-5f, 1.723631431e-4f, -5.749279808e-5f,
                      9.050560948e-6f, -7.226685170e-7f, 2.372752483e-8f);
}

// Those for results that become bfloat16: gelu and gelu_tanh to within 1.3e-4.
FP_INLINE Vec rough_gelu(Vec x) {
  return gelu_of_root(x, 4.05f, 7.048903108e-1f, -2.655952871e-1f, -9.536702186e-2f, 6.477844715e-2f, -1.111807860e-2f,
                      5.711555132e-4f);
}
FP_INLINE Vec rough_gelu_tanh(Vec x) {
  return gelu_of_root(x, 4.1f, 7.053123713e-1f, -2.682024837e-1f, -9.061041474e-2f, 6.178827211e-2f, -1.041271444e-2f,
                      5.148473429e-4f);
}

}  // namespace forwardpass::FORWARDPASS_ISA
