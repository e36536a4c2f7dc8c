// SPDX-License-Identifier: Apache-2.0
// ArgMax, ArgMin and TopK. The answers are those of a total order, so the order of comparisons changes nothing.
#include "lanes.hpp"
#include "typed.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr std::int64_t kColumns = 64;  // outputs side by side in memory that are found together

template <class T>
FP_INLINE bool is_unordered(T x) {
  return !(x == x);
}

// Whether a comes before b in the order that ArgMax or ArgMin looks for the first of.
template <bool kLargest, class T>
FP_INLINE bool beats(T a, T b) {
  return (kLargest ? a > b : a < b) | (is_unordered(a) & !is_unordered(b));
}

// Whether a later element takes the place of the best one so far.
template <bool kLargest, bool kLast, class T>
FP_INLINE bool replaces(T a, T best) {
  if (!kLast) return beats<kLargest>(a, best);
  return (kLargest ? a >= best : a <= best) | is_unordered(a);
}

template <bool kLargest, bool kLast, class T>
FP_INLINE std::int64_t arg_of(const T* x, std::int64_t stride, std::int64_t length) {
  std::int64_t at = 0;
  T best = x[0];
  for (std::int64_t i = 1; i < length; ++i) {
    const T value = x[i * stride];
    const bool take = replaces<kLargest, kLast>(value, best);
    best = take ? value : best;
    at = take ? i : at;
  }
  return at;
}

// A dense row of floats: its extreme by vectors, and then the place where it is.
template <bool kLargest, bool kLast>
FP_INLINE std::int64_t arg_of_dense(const float* x, std::int64_t length) {
  using Fold = Choice<kLargest, MaxFold, MinFold>;
  constexpr int kStep = 4 * kVirtualLanes;
  if (length < kStep) return arg_of<kLargest, kLast>(x, 1, length);
  Lanes sets[4];
  for (Lanes& set : sets) set = lanes_of<Fold>();
  std::int64_t i = 0;
  for (; i + kStep <= length; i += kStep) {
    for (int s = 0; s < 4; ++s) fold_lanes<Fold>(sets[s], x + i + s * kVirtualLanes);
  }
  // The last block again: no element is too many in an extreme.
  for (int s = 0; s < 4; ++s) fold_lanes<Fold>(sets[s], x + length - kStep + s * kVirtualLanes);
  for (int s = 1; s < 4; ++s) {
    for (int k = 0; k < kLaneVecs; ++k) sets[0].v[k] = Fold::apply(sets[0].v[k], sets[s].v[k]);
  }
  const float best = combine_lanes<Fold>(sets[0]);
  const Vec wanted = set1(best);
  const bool unordered = is_unordered(best);
  const auto found = [&](std::int64_t at) __attribute__((always_inline)) {
    const Vec v = load(x + at);
    return any(unordered ? is_nan(v) : v == wanted);
  };
  const auto matches = [&](float v) __attribute__((always_inline)) { return unordered ? is_unordered(v) : v == best; };
  if (kLast) {
    i = length;
    while (i >= kLanes && !found(i - kLanes)) i -= kLanes;
    do {
      --i;
    } while (i > 0 && !matches(x[i]));
    return i;
  }
  i = 0;
  while (i + kLanes <= length && !found(i)) i += kLanes;
  while (i + 1 < length && !matches(x[i])) ++i;
  return i;
}

// `n` <= kColumns outputs whose elements are side by side.
template <bool kLargest, bool kLast, class T>
FP_INLINE void arg_columns(const T* x, std::int64_t stride, std::int64_t length, std::int64_t* out,
                           std::int64_t out_stride, std::int64_t n) {
  T best[kColumns];
  std::int32_t at[kColumns];
  for (std::int64_t c = 0; c < n; ++c) {
    best[c] = x[c];
    at[c] = 0;
  }
  for (std::int32_t i = 1; i < length; ++i) {
    const T* row = x + i * stride;
    for (std::int64_t c = 0; c < n; ++c) {
      const bool take = replaces<kLargest, kLast>(row[c], best[c]);
      best[c] = take ? row[c] : best[c];
      at[c] = take ? i : at[c];
    }
  }
  for (std::int64_t c = 0; c < n; ++c) out[c * out_stride] = at[c];
}

template <bool kLargest, bool kLast, class T>
FP_INLINE void arg_run(const ArgParams& p, const T* x, std::int64_t stride, std::int64_t* out, std::int64_t out_stride,
                       std::int64_t count) {
  if (stride == 1 && p.axis_stride != 1) {
    for (std::int64_t i = 0; i < count; i += kColumns) {
      const std::int64_t n = min_of(kColumns, count - i);
      arg_columns<kLargest, kLast>(x + i, p.axis_stride, p.length, out + i * out_stride, out_stride, n);
    }
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const T* row = x + i * stride;
    if constexpr (kSame<T, float>) {
      if (p.axis_stride == 1) {
        out[i * out_stride] = arg_of_dense<kLargest, kLast>(row, p.length);
        continue;
      }
    }
    out[i * out_stride] = arg_of<kLargest, kLast>(row, p.axis_stride, p.length);
  }
}

template <bool kLargest>
FP_INLINE void arg(const KernelArgs& args, Range range) {
  const ArgParams& p = params_of<ArgParams>(args);
  std::int64_t* out = output<std::int64_t>(args);
  const Strided<2> s = strided<2>(p.rank, p.shape, {p.in_stride, p.out_stride});
  with_type(p.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t count) {
      const T* x = input<T>(args, 0) + offset[0];
      std::int64_t* y = out + offset[1];
      if (p.last) {
        arg_run<kLargest, true>(p, x, s.row_stride(0), y, s.row_stride(1), count);
      } else {
        arg_run<kLargest, false>(p, x, s.row_stride(0), y, s.row_stride(1), count);
      }
    });
  });
}

// The row of a TopK, and the heap of the indices of its best elements in the output, the worst of them first.
template <bool kLargest, class T>
struct Heap {
  const T* x;
  std::int64_t stride;
  std::int64_t* index;
  std::int64_t index_stride;
};

// NaN is larger than all others: first of the largest, last of the smallest.
template <bool kLargest, class T>
FP_INLINE bool precedes(T a, T b) {
  if (kLargest) return beats<true>(a, b);
  return (a < b) | (is_unordered(b) & !is_unordered(a));
}

template <bool kLargest, class T>
FP_INLINE bool comes_before(const Heap<kLargest, T>& heap, std::int64_t i, std::int64_t j) {
  const T a = heap.x[i * heap.stride], b = heap.x[j * heap.stride];
  return precedes<kLargest>(a, b) || (!precedes<kLargest>(b, a) && i < j);
}

// Puts `element` where it belongs in the part of the heap of `size` elements below `hole`.
template <bool kLargest, class T>
FP_INLINE void sift(const Heap<kLargest, T>& heap, std::int64_t size, std::int64_t hole, std::int64_t element) {
  std::int64_t* const index = heap.index;
  const std::int64_t step = heap.index_stride;
  for (std::int64_t child = 2 * hole + 1; child < size; child = 2 * hole + 1) {
    if (child + 1 < size && comes_before(heap, index[child * step], index[(child + 1) * step])) ++child;
    if (!comes_before(heap, element, index[child * step])) break;
    index[hole * step] = index[child * step];
    hole = child;
  }
  index[hole * step] = element;
}

// The first element from i on that beats `worst`, or `length`.
template <bool kLargest, class T>
FP_INLINE std::int64_t next_better(const T* x, std::int64_t stride, std::int64_t i, std::int64_t length, T worst) {
  if constexpr (kSame<T, float>) {
    const Vec bound = set1(worst);
    while (stride == 1 && i + kVirtualLanes <= length) {
      bool found = false;
      for (int k = 0; k < kLaneVecs; ++k) {
        const Vec v = load(x + i + k * kLanes);
        found |= any((kLargest ? v > bound : v < bound) | is_nan(v) | is_nan(bound));
      }
      if (found) break;
      i += kVirtualLanes;
    }
  }
  while (i < length && !precedes<kLargest>(x[i * stride], worst)) ++i;
  return i;
}

template <bool kLargest, class T>
FP_INLINE void top_k(const T* x, std::int64_t stride, std::int64_t length, std::int64_t k, std::int64_t* out,
                     std::int64_t out_stride) {
  const Heap<kLargest, T> heap = {x, stride, out, out_stride};
  for (std::int64_t i = 0; i < k; ++i) out[i * out_stride] = i;
  for (std::int64_t i = k / 2 - 1; i >= 0; --i) sift(heap, k, i, out[i * out_stride]);
  T worst = x[out[0] * stride];
  for (std::int64_t i = next_better<kLargest>(x, stride, k, length, worst); i < length;
       i = next_better<kLargest>(x, stride, i + 1, length, worst)) {
    sift(heap, k, 0, i);
    worst = x[out[0] * stride];
  }
  for (std::int64_t size = k - 1; size > 0; --size) {
    const std::int64_t moved = out[size * out_stride];
    out[size * out_stride] = out[0];
    sift(heap, size, 0, moved);
  }
}

}  // namespace

void arg_max_any(const KernelArgs& args, Range range) noexcept { arg<true>(args, range); }
void arg_min_any(const KernelArgs& args, Range range) noexcept { arg<false>(args, range); }

void top_k_any(const KernelArgs& args, Range range) noexcept {
  const TopKParams& p = params_of<TopKParams>(args);
  if (p.k <= 0) return;
  const Strided<2> s = strided<2>(p.rank, p.shape, {p.in_stride, p.out_stride});
  with_type(p.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) {
        const T* x = input<T>(args, 0) + offset[0] + i * s.row_stride(0);
        std::int64_t* out = output<std::int64_t>(args) + offset[1] + i * s.row_stride(1);
        if (p.largest) {
          top_k<true>(x, p.axis_stride, p.length, p.k, out, p.out_axis);
        } else {
          top_k<false>(x, p.axis_stride, p.length, p.k, out, p.out_axis);
        }
      }
    });
  });
}

}  // namespace forwardpass::FORWARDPASS_ISA
