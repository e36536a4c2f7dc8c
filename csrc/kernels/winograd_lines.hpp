// SPDX-License-Identifier: Apache-2.0
// The transforms of Winograd's convolutions along one line: F(2, 3) and F(4, 3).
#pragma once
#include "vec.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// F(kOut, 3): kOut outputs of kIn = kOut + 2 inputs by kIn products.
template <int kOut>
struct Line;

// Points 0, 1, -1 and infinity: both transforms only add and subtract.
template <>
struct Line<2> {
  static constexpr int kIn = 4;

  FP_INLINE void forward(Vec (&d)[4]) {
    const Vec first = d[0] - d[2], sum = d[1] + d[2], difference = d[2] - d[1], last = d[1] - d[3];
    d[0] = first;
    d[1] = sum;
    d[2] = difference;
    d[3] = last;
  }

  FP_INLINE void backward(const Vec (&m)[4], Vec (&y)[2]) {
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] - m[3];
  }
};

// Points 0, a, -a, b, -b and infinity. Of all such a and b whose squares and products are exact in float32 these are
// next to those that enlarge the rounding of the products least (0.651 and 1.535): 2.3 times less than 1 and 2 do.
template <>
struct Line<4> {
  static constexpr int kIn = 6;
  static constexpr float kA = 0.625f, kB = 1.5f;

  FP_INLINE void forward(Vec (&d)[6]) {
    const Vec a = set1(kA), b = set1(kB), a2 = set1(kA * kA), b2 = set1(kB * kB);
    const Vec sum = set1(kA * kA + kB * kB), product = set1(kA * kA * kB * kB);
    const Vec first = fma(product, d[0], fnma(sum, d[2], d[4])), last = fma(product, d[1], fnma(sum, d[3], d[5]));
    const Vec even_a = fnma(b2, d[2], d[4]), odd_a = fnma(b2, d[1], d[3]);
    const Vec even_b = fnma(a2, d[2], d[4]), odd_b = fnma(a2, d[1], d[3]);
    d[0] = first;
    d[1] = fma(a, odd_a, even_a);
    d[2] = fnma(a, odd_a, even_a);
    d[3] = fma(b, odd_b, even_b);
    d[4] = fnma(b, odd_b, even_b);
    d[5] = last;
  }

  FP_INLINE void backward(const Vec (&m)[6], Vec (&y)[4]) {
    const Vec sum_a = m[1] + m[2], difference_a = m[1] - m[2], sum_b = m[3] + m[4], difference_b = m[3] - m[4];
    y[0] = m[0] + (sum_a + sum_b);
    y[1] = fma(set1(kB), difference_b, set1(kA) * difference_a);
    y[2] = fma(set1(kB * kB), sum_b, set1(kA * kA) * sum_a);
    y[3] = fma(set1(kB * kB * kB), difference_b, fma(set1(kA * kA * kA), difference_a, m[5]));
  }
};

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
