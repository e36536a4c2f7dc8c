// SPDX-License-Identifier: Apache-2.0
// Normalisation of dense rows: LayerNormalization and all that differ from it in what is summed or scaled. The sums
// run over 64 virtual lanes, so that additions wait less for each other: block c of 16 elements goes to set c mod 4.
#include "lanes.hpp"
#include "near_pair.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kSets = 4;
constexpr std::int64_t kMostWaiting = 4;

enum Norm : std::int64_t { kEpsilonInRoot, kEpsilonBesideRoot, kRootOfSum, kSumOfMagnitudes };

// The sum over n elements; `add(sum, x)` is the sum with the term of x.
template <class Add>
FP_INLINE float sum_of(const float* p, std::int64_t n, Add add) {
  alignas(64) static constexpr float kIota[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  Lanes sets[kSets];
  for (Lanes& set : sets) set = lanes_of<SumFold>();
  std::int64_t i = 0;
  for (; i + kSets * kVirtualLanes <= n; i += kSets * kVirtualLanes) {
    for (int s = 0; s < kSets; ++s) {
      for (int k = 0; k < kLaneVecs; ++k) {
        sets[s].v[k] = add(sets[s].v[k], load(p + i + s * kVirtualLanes + k * kLanes));
      }
    }
  }
  for (int s = 0; i < n; i += kVirtualLanes, ++s) {
    const int left = static_cast<int>(min_of(n - i, kVirtualLanes));
    const Vec count = set1(static_cast<float>(left));
    for (int k = 0; k < kLaneVecs && k * kLanes < left; ++k) {
      const Vec x = load(p + i + k * kLanes, static_cast<int>(min_of(left - k * kLanes, kLanes)));
      sets[s].v[k] = select(load(kIota + k * kLanes) < count, add(sets[s].v[k], x), sets[s].v[k]);
    }
  }
  for (int k = 0; k < kLaneVecs; ++k) {
    sets[0].v[k] = (sets[0].v[k] + sets[1].v[k]) + (sets[2].v[k] + sets[3].v[k]);
  }
  return combine_lanes<SumFold>(sets[0]);
}

struct Moments {
  float mean;
  float factor;
};

Moments moments(const NormalizeParams& p, const float* x) {
  const std::int64_t n = p.blocks * p.inner;
  const float count = static_cast<float>(n);
  float mean = 0.0f;
  if (p.centred) mean = sum_of(x, n, [](Vec sum, Vec v) __attribute__((always_inline)) { return sum + v; }) / count;
  if (p.norm == kSumOfMagnitudes) {
    const float sum = sum_of(x, n, [](Vec s, Vec v) __attribute__((always_inline)) { return s + abs(v); });
    return {mean, sum == 0.0f ? 0.0f : 1.0f / sum};
  }
  const Vec centre = set1(mean);
  const float sum = sum_of(x, n, [centre](Vec s, Vec v) __attribute__((always_inline)) {
    const Vec d = v - centre;
    return fma(d, d, s);
  });
  if (p.norm == kRootOfSum) return {mean, sum == 0.0f ? 0.0f : 1.0f / __builtin_sqrtf(sum)};
  const float size =
      p.norm == kEpsilonInRoot ? __builtin_sqrtf(sum / count + p.epsilon) : __builtin_sqrtf(sum / count) + p.epsilon;
  return {mean, 1.0f / size};
}

// The first `count` lanes. Where the count is known to be that of all, the load is a plain one.
FP_INLINE Vec load_first(const float* p, int count) { return count == kLanes ? load(p) : load(p, count); }

template <class F>
FP_INLINE void map_row(const float* x, float* y, std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(x + i), i, kLanes));
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    store(y + i, f(load(x + i, rest), i, rest), rest);
  }
}

// Scale and shift are values of the whole block.
FP_INLINE void scale_block(const float* x, float* y, std::int64_t n, Moments m, float scale, float shift) {
  const Vec mean = set1(m.mean), factor = set1(m.factor * scale), add = set1(shift);
  map_row(x, y, n, [=](Vec v, std::int64_t, int) __attribute__((always_inline)) { return fma(v - mean, factor, add); });
}

// Each element has its scale and, if there is one, its shift.
FP_INLINE void scale_elements(const float* x, float* y, std::int64_t n, Moments m, const float* scale,
                              const float* shift) {
  const Vec mean = set1(m.mean), factor = set1(m.factor);
  if (shift) {
    map_row(x, y, n, [=](Vec v, std::int64_t i, int count) __attribute__((always_inline)) {
      return fma((v - mean) * factor, load_first(scale + i, count), load_first(shift + i, count));
    });
  } else {
    map_row(x, y, n, [=](Vec v, std::int64_t i, int count) __attribute__((always_inline)) {
      return (v - mean) * factor * load_first(scale + i, count);
    });
  }
}

// Rows of n elements as an operand of one term, which are `block` words apart from one block to the next. Of numbers
// and factors that are finite, no result is a NaN of all bits.
void put_words(const float* y, std::int64_t n, std::int64_t rows, bool finite, float* out, std::int64_t block) {
  Largest largest;
  for (std::int64_t at = 0; at < n; at += kBlock) {
    float* to = out + at / kBlock * block;
    for (std::int64_t i = 0; i < rows; ++i) {
      for (int j = 0; j < kPairs; j += kLanes, to += kLanes) {
        const float* from = y + i * n + at + j;
        const IVec words = near_pair(load(from), load(from + kPairs));
        largest.see(words);
        store(to, from_bits(words));
      }
    }
  }
  if (finite && largest.finite()) [[likely]]
    return;
  for (std::int64_t at = 0; at < n; at += kBlock) {
    float* const to = out + at / kBlock * block;
    for (std::int64_t i = 0; i < rows; ++i) store_block<1>(y + i * n + at, kBlock, to + i * kPairs, kPairs);
  }
}

bool all_finite(const float* p, std::int64_t n) {
  Finite seen;
  for (std::int64_t i = 0; p && i < n; i += kLanes) seen.see(load_valid(p + i, n - i));
  return seen.all();
}

}  // namespace

void normalize_f32(const KernelArgs& args, Range range) noexcept {
  const NormalizeParams& p = params_of<NormalizeParams>(args);
  const float* scale = static_cast<const float*>(args.in[1]);
  const float* shift = static_cast<const float*>(args.in[2]);
  float* const made = static_cast<float*>(const_cast<void*>(args.in[3]));
  const std::int64_t length = p.blocks * p.inner;
  const bool plain = made && p.groups == 1 && all_finite(scale, length) && all_finite(shift, length);
  bool finite = plain;
  std::int64_t waiting = 0;  // rows that are no operand yet: some of an image, which stay in L1
  for (std::int64_t row = range.begin; row < range.end; ++row) {
    const float* x = static_cast<const float*>(args.in[0]) + row * length;
    float* const first = static_cast<float*>(args.out) + row * length;
    const Moments m = moments(p, x);
    for (std::int64_t b = 0; b < p.blocks; ++b, x += p.inner) {
      const std::int64_t at = row % p.groups * p.group_stride + b * p.block_stride;
      float* const y = first + b * p.inner;
      if (scale && p.inner_stride) {
        scale_elements(x, y, p.inner, m, scale + at, shift ? shift + at : nullptr);
      } else {
        scale_block(x, y, p.inner, m, scale ? scale[at] : 1.0f, shift ? shift[at] : 0.0f);
      }
    }
    if (!made) continue;
    finite = finite && __builtin_isfinite(m.mean) && __builtin_isfinite(m.factor);
    const std::int64_t place = row % p.image;
    if (++waiting < kMostWaiting && row + 1 < range.end && place + 1 < p.image) continue;
    float* const out = made + row / p.image * p.made_batch + (place + 1 - waiting) * kPairs;
    put_words(first - (waiting - 1) * length, length, waiting, finite, out, p.made_block);
    waiting = 0;
    finite = plain;
  }
}

void inverse_deviation_f32(const KernelArgs& args, Range range) noexcept {
  const NormalizeParams& p = params_of<NormalizeParams>(args);
  const float* x = static_cast<const float*>(args.in[0]);
  float* out = static_cast<float*>(args.out);
  for (std::int64_t row = range.begin; row < range.end; ++row) {
    out[row] = moments(p, x + row * p.blocks * p.inner).factor;
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
