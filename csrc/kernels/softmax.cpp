// SPDX-License-Identifier: Apache-2.0
// Softmax and LogSoftmax along one axis. Element i of a row goes to virtual lane i mod 16 (lanes.hpp), whatever the
// axis' stride, so the sum has the same bits in every layout and on every ISA.
#include "lanes.hpp"
#include "strided.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// Lanes of vector k among the first n of the 16.
FP_INLINE int lanes_left(int n, int k) {
  const int left = n - k * kLanes;
  return left < 0 ? 0 : left < kLanes ? left : kLanes;
}

// 16 elements of a row, or its first n < 16 with -inf in the other lanes: it changes no maximum, and e^-inf is zero.
FP_INLINE Lanes load_lanes(const float* p, std::int64_t stride) {
  Lanes x;
  for (int k = 0; k < kLaneVecs; ++k) {
    x.v[k] = stride == 1 ? load(p + k * kLanes) : gather(p + k * kLanes * stride, stride);
  }
  return x;
}

FP_INLINE Lanes load_lanes(const float* p, std::int64_t stride, int n) {
  alignas(64) static constexpr float kIota[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  alignas(64) float stage[kVirtualLanes];
  if (stride != 1) gather_row(p, stride, stage, n);
  const float* from = stride == 1 ? p : stage;
  Lanes x;
  for (int k = 0; k < kLaneVecs; ++k) {
    const int rest = lanes_left(n, k);
    const Vec in = rest == 0 ? zero() : load(from + k * kLanes, rest);
    x.v[k] = select(load(kIota + k * kLanes) < set1(static_cast<float>(n)), in, set1(-kInf));
  }
  return x;
}

FP_INLINE void store_lanes(float* p, std::int64_t stride, const Lanes& x) {
  if (stride == 1) {
    for (int k = 0; k < kLaneVecs; ++k) store(p + k * kLanes, x.v[k]);
    return;
  }
  alignas(64) float stage[kVirtualLanes];
  for (int k = 0; k < kLaneVecs; ++k) store(stage + k * kLanes, x.v[k]);
  scatter_row(stage, p, stride, kVirtualLanes);
}

FP_INLINE void store_lanes(float* p, std::int64_t stride, const Lanes& x, int n) {
  if (stride == 1) {
    for (int k = 0; k < kLaneVecs; ++k) {
      if (const int rest = lanes_left(n, k)) store(p + k * kLanes, x.v[k], rest);
    }
    return;
  }
  alignas(64) float stage[kVirtualLanes];
  for (int k = 0; k < kLaneVecs; ++k) store(stage + k * kLanes, x.v[k]);
  scatter_row(stage, p, stride, n);
}

template <class F>
FP_INLINE Lanes map(const Lanes& x, F f) {
  Lanes y;
  for (int k = 0; k < kLaneVecs; ++k) y.v[k] = f(x.v[k]);
  return y;
}

template <class Fold>
FP_INLINE void fold(Lanes& lanes, const Lanes& x) {
  for (int k = 0; k < kLaneVecs; ++k) lanes.v[k] = Fold::apply(lanes.v[k], x.v[k]);
}

struct Row {
  const float* in;
  float* out;
  std::int64_t in_stride;
  std::int64_t out_stride;
  std::int64_t length;
};

// The fold of f(x) over the row; with kKeep, f(x) is written to the output too.
template <class Fold, bool kKeep, class F>
FP_INLINE float fold_row(const Row& row, F f) {
  Lanes lanes = lanes_of<Fold>();
  std::int64_t i = 0;
  for (; i + kVirtualLanes <= row.length; i += kVirtualLanes) {
    const Lanes x = map(load_lanes(row.in + i * row.in_stride, row.in_stride), f);
    fold<Fold>(lanes, x);
    if (kKeep) store_lanes(row.out + i * row.out_stride, row.out_stride, x);
  }
  if (i < row.length) {
    const int rest = static_cast<int>(row.length - i);
    const Lanes x = map(load_lanes(row.in + i * row.in_stride, row.in_stride, rest), f);
    fold<Fold>(lanes, x);
    if (kKeep) store_lanes(row.out + i * row.out_stride, row.out_stride, x, rest);
  }
  return combine_lanes<Fold>(lanes);
}

template <class F>
FP_INLINE void map_row(const Row& row, F f) {
  std::int64_t i = 0;
  for (; i + kVirtualLanes <= row.length; i += kVirtualLanes) {
    const Lanes x = load_lanes(row.in + i * row.in_stride, row.in_stride);
    store_lanes(row.out + i * row.out_stride, row.out_stride, map(x, f));
  }
  if (i < row.length) {
    const int rest = static_cast<int>(row.length - i);
    const Lanes x = load_lanes(row.in + i * row.in_stride, row.in_stride, rest);
    store_lanes(row.out + i * row.out_stride, row.out_stride, map(x, f), rest);
  }
}

// A NaN anywhere makes the maximum NaN, and so do rows of -inf alone and a +inf through inf - inf.
FP_INLINE float row_max(const Row& row) {
  return fold_row<MaxFold, false>(row, [](Vec x) __attribute__((always_inline)) { return x; });
}

// The same operations with the exponentials kept in registers: reading them back would wait for the masked store.
template <class F>
FP_INLINE void short_softmax_row(const Row& row, F shifted_exp) {
  const int n = static_cast<int>(row.length);
  const Lanes x = map(load_lanes(row.in, row.in_stride, n), shifted_exp);
  Lanes sum = lanes_of<SumFold>();
  fold<SumFold>(sum, x);
  const Vec scale = set1(1.0f) / set1(combine_lanes<SumFold>(sum));
  store_lanes(row.out, row.out_stride, map(x, [scale](Vec y) __attribute__((always_inline)) { return y * scale; }), n);
}

FP_INLINE void softmax_row(const Row& row) {
  const Vec top = set1(row_max(row));
  const auto shifted_exp = [top](Vec x) __attribute__((always_inline)) { return exp(x - top); };
  if (row.length < kVirtualLanes) return short_softmax_row(row, shifted_exp);
  const Vec scale = set1(1.0f) / set1(fold_row<SumFold, true>(row, shifted_exp));
  const Row result = {row.out, row.out, row.out_stride, row.out_stride, row.length};
  map_row(result, [scale](Vec x) __attribute__((always_inline)) { return x * scale; });
}

FP_INLINE void log_softmax_row(const Row& row) {
  const Vec top = set1(row_max(row));
  const auto shifted_exp = [top](Vec x) __attribute__((always_inline)) { return exp(x - top); };
  const Vec log_sum = log(set1(fold_row<SumFold, false>(row, shifted_exp)));
  map_row(row, [top, log_sum](Vec x) __attribute__((always_inline)) { return (x - top) - log_sum; });
}

// The maximum is finite in the difference: rows of infinities keep theirs, and a row of nothing is log(0).
FP_INLINE void log_sum_exp_row(const Row& row) {
  constexpr float kLargest = 3.40282347e+38f;
  const Vec top = clamp(set1(row_max(row)), set1(-kLargest), set1(kLargest));
  const auto shifted_exp = [top](Vec x) __attribute__((always_inline)) { return exp(x - top); };
  const Vec log_sum = log(set1(fold_row<SumFold, false>(row, shifted_exp)));
  store(row.out, top + log_sum, 1);
}

template <void (*kRow)(const Row&)>
FP_INLINE void for_each_axis(const KernelArgs& args, Range range) {
  const SoftmaxParams& p = params_of<SoftmaxParams>(args);
  const float* in = static_cast<const float*>(args.in[0]);
  float* out = static_cast<float*>(args.out);
  const Strided<2> s = strided<2>(p.rank, p.shape, {p.in_stride, p.out_stride});
  for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      kRow({in + offset[0] + i * s.row_stride(0), out + offset[1] + i * s.row_stride(1), p.in_axis, p.out_axis,
            p.length});
    }
  });
}

}  // namespace

void log_sum_exp_f32(const KernelArgs& args, Range range) noexcept { for_each_axis<log_sum_exp_row>(args, range); }
void softmax_f32(const KernelArgs& args, Range range) noexcept { for_each_axis<softmax_row>(args, range); }
void log_softmax_f32(const KernelArgs& args, Range range) noexcept { for_each_axis<log_softmax_row>(args, range); }

}  // namespace forwardpass::FORWARDPASS_ISA
