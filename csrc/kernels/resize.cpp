// SPDX-License-Identifier: Apache-2.0
// Interpolation along one axis, and the choice of one element per output along all.
#include "typed.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// The outputs of an axis: which elements of the input each is made of, and the weights, tap by tap.
struct Taps {
  const std::int64_t* index;
  const float* weights;
  std::int64_t count;
  std::int64_t taps;
};

// Output i of an axis whose elements are blocks of `inner` floats.
FP_INLINE void blend(const Taps& t, std::int64_t i, const float* in, float* out, std::int64_t inner) {
  for (std::int64_t c = 0; c < inner; c += kLanes) {
    const int n = static_cast<int>(min_of(kLanes, inner - c));
    const auto element = [&](std::int64_t tap) __attribute__((always_inline)) {
      const float* x = in + t.index[tap * t.count + i] * inner + c;
      return n == kLanes ? load(x) : load(x, n);
    };
    Vec sum = set1(t.weights[i]) * element(0);
    for (std::int64_t k = 1; k < t.taps; ++k) sum = fma(set1(t.weights[k * t.count + i]), element(k), sum);
    n == kLanes ? store(out + c, sum) : store(out + c, sum, n);
  }
}

// A row of single elements: the vectors run over the outputs.
FP_INLINE void blend_row(const Taps& t, const float* in, float* out) {
  for (std::int64_t i = 0; i < t.count; i += kLanes) {
    const int n = static_cast<int>(min_of(kLanes, t.count - i));
    alignas(64) float chosen[kLanes] = {};
    Vec sum = zero();
    for (std::int64_t k = 0; k < t.taps; ++k) {
      const std::int64_t* index = t.index + k * t.count + i;
      for (int j = 0; j < n; ++j) chosen[j] = in[index[j]];
      const Vec w = n == kLanes ? load(t.weights + k * t.count + i) : load(t.weights + k * t.count + i, n);
      sum = k == 0 ? w * load(chosen) : fma(w, load(chosen), sum);
    }
    n == kLanes ? store(out + i, sum) : store(out + i, sum, n);
  }
}

}  // namespace

void resample_f32(const KernelArgs& args, Range range) noexcept {
  const ResampleParams& p = params_of<ResampleParams>(args);
  const Taps t = {static_cast<const std::int64_t*>(p.index), static_cast<const float*>(p.weights), p.count, p.taps};
  const bool* outside = static_cast<const bool*>(p.outside);
  const float* in = input<float>(args, 0);
  float* out = output<float>(args);
  for (std::int64_t u = range.begin; u < range.end; ++u) {
    if (p.inner == 1) {
      float* to = out + u * p.count;
      blend_row(t, in + u * p.size, to);
      for (std::int64_t i = 0; outside && i < p.count; ++i) {
        if (outside[i]) to[i] = p.value;
      }
      continue;
    }
    const std::int64_t outer = u / p.count, i = u % p.count;
    float* to = out + u * p.inner;
    if (outside && outside[i]) {
      for (std::int64_t c = 0; c < p.inner; ++c) to[c] = p.value;
    } else {
      blend(t, i, in + outer * p.size * p.inner, to, p.inner);
    }
  }
}

void choose_any(const KernelArgs& args, Range range) noexcept {
  const ChooseParams& p = params_of<ChooseParams>(args);
  const std::int64_t* index[kMaxRank] = {static_cast<const std::int64_t*>(p.index)};
  for (std::int64_t d = 1; d < p.rank; ++d) index[d] = index[d - 1] + p.shape[d - 1];
  const std::int64_t row = p.rank - 1, width = p.shape[row];
  const std::int64_t* along = index[row];
  const std::int64_t si = p.in_stride[row], so = p.out_stride[row];
  with_size(p.itemsize, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (std::int64_t u = range.begin; u < range.end; ++u) {
      std::int64_t rest = u, from = 0, to = 0;
      for (std::int64_t d = row - 1; d >= 0; --d) {
        const std::int64_t i = rest % p.shape[d];
        rest /= p.shape[d];
        from += index[d][i] * p.in_stride[d];
        to += i * p.out_stride[d];
      }
      const T* in = input<T>(args, 0) + from;
      T* out = output<T>(args) + to;
      if (p.dense && si == 1 && so == 1) {
        __builtin_memcpy(out, in, static_cast<std::size_t>(width) * sizeof(T));
      } else if (si == 1 && so == 1) {
        for (std::int64_t j = 0; j < width; ++j) out[j] = in[along[j]];
      } else {
        for (std::int64_t j = 0; j < width; ++j) out[j * so] = in[along[j] * si];
      }
    }
  });
}

}  // namespace forwardpass::FORWARDPASS_ISA
