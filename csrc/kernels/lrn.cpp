// SPDX-License-Identifier: Apache-2.0
// LRN: every element divided by a power of the sum of squares of the channels around it.
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// Positions whose channels are worked on together: the channels of a window stay in L1.
constexpr std::int64_t kColumns = 256;

// `count` <= kLanes positions side by side in the channels from `low` up to `high`.
FP_INLINE Vec square_sum(const float* x, std::int64_t inner, std::int64_t low, std::int64_t high, int count) {
  Vec sum = zero();
  for (std::int64_t c = low; c < high; ++c) {
    const Vec v = count == kLanes ? load(x + c * inner) : load(x + c * inner, count);
    sum = fma(v, v, sum);
  }
  return sum;
}

void lrn_columns(const LrnParams& p, const float* x, float* y, std::int64_t columns) {
  const Vec alpha = set1(p.alpha), bias = set1(p.bias), power = set1(-p.beta);
  for (std::int64_t c = 0; c < p.channels; ++c) {
    const std::int64_t low = max_of(c - p.before, 0), high = min_of(c + p.after + 1, p.channels);
    for (std::int64_t i = 0; i < columns; i += kLanes) {
      const int count = static_cast<int>(min_of(columns - i, kLanes));
      const Vec size = fma(square_sum(x + i, p.inner, low, high, count), alpha, bias);
      const std::int64_t at = c * p.inner + i;
      store(y + at, load(x + at, count) * pow(size, power), count);
    }
  }
}

}  // namespace

void lrn_f32(const KernelArgs& args, Range range) noexcept {
  const LrnParams& p = params_of<LrnParams>(args);
  const float* x = static_cast<const float*>(args.in[0]);
  float* y = static_cast<float*>(args.out);
  for (std::int64_t i = range.begin; i < range.end;) {
    const std::int64_t image = i / p.inner, column = i % p.inner;
    const std::int64_t n = min_of(min_of(p.inner - column, kColumns), range.end - i);
    const std::int64_t at = image * p.channels * p.inner + column;
    lrn_columns(p, x + at, y + at, n);
    i += n;
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
