// SPDX-License-Identifier: Apache-2.0
// Operators that put elements at places that come from data.
#include "indices.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

enum Reduction : std::int64_t { kReplace, kAdd, kMul, kMin, kMax };

template <class T>
constexpr bool kFractions = static_cast<T>(0.5f) != static_cast<T>(0);

// Integers wrap around, so the arithmetic is done in an unsigned type. A NaN of either operand stays.
template <class T, std::int64_t kReduction>
FP_INLINE T combined(T old, T value) {
  using Wide = std::uint64_t;
  if constexpr (kReduction == kReplace) return value;
  if constexpr (kReduction == kAdd) {
    if constexpr (kFractions<T>) return static_cast<T>(old + value);
    return static_cast<T>(static_cast<Wide>(old) + static_cast<Wide>(value));
  }
  if constexpr (kReduction == kMul) {
    if constexpr (kFractions<T>) return static_cast<T>(old * value);
    return static_cast<T>(static_cast<Wide>(old) * static_cast<Wide>(value));
  }
  if constexpr (kReduction == kMin) return old != old || old < value ? old : value;
  return old != old || old > value ? old : value;
}

template <std::int64_t kValue>
struct Number {
  static constexpr std::int64_t value = kValue;
};

// body(Tag<T>{}, a Tag of the reduction's number). Bytes that are only moved, and integers that wrap around, have one T
// for many types.
template <class Body>
FP_INLINE void with_reduction(std::int64_t type, std::int64_t reduction, Body body) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    switch (reduction) {
      case kReplace:
        return body(Tag<Bytes<T>>{}, Number<kReplace>{});
      case kAdd:
        return body(Tag<Modular<T>>{}, Number<kAdd>{});
      case kMul:
        return body(Tag<Modular<T>>{}, Number<kMul>{});
      case kMin:
        return body(tag, Number<kMin>{});
      case kMax:
        return body(tag, Number<kMax>{});
    }
  });
}

template <class T, std::int64_t kReduction>
void scatter_elements(const ScatterElementsParams& p, const KernelArgs& args, std::int64_t total) {
  const Strided<2> s = strided<2>(p.rank, p.shape, {p.in_stride, p.out_stride});
  const std::int64_t si = s.row_stride(0), so = s.row_stride(1);
  const T* updates = input<T>(args, 1);
  T* out = output<T>(args);
  for_each_row(s, {0, total}, [&](const std::int64_t* offset, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t at = offset[0] + i * si;
      const std::int64_t index = checked(args, load_index(args.in[0], p.index_bytes, at), p.size);
      T* to = out + offset[1] + i * so + index * p.axis_stride;
      *to = combined<T, kReduction>(*to, updates[at]);
    }
  });
}

template <class T, std::int64_t kReduction>
void scatter_nd(const ScatterNdParams& p, const KernelArgs& args) {
  const std::int64_t* indices = input<std::int64_t>(args, 0);
  const T* updates = input<T>(args, 1);
  T* out = output<T>(args);
  for (std::int64_t row = 0; row < p.count; ++row) {
    std::int64_t at = 0;
    for (std::int64_t d = 0; d < p.depth; ++d) {
      const std::int64_t index = indices[row * p.depth + d];
      if (p.shape[d] == 0) return args.report(index);
      at += checked(args, index, p.shape[d]) * p.stride[d];
    }
    for (std::int64_t i = 0; i < p.block; ++i) {
      out[at + i] = combined<T, kReduction>(out[at + i], updates[row * p.block + i]);
    }
  }
}

// The class that an index means, `depth` or more or less than 0 where it means none.
template <class T>
FP_INLINE std::int64_t class_of(T index, std::int64_t depth) {
  constexpr std::int64_t kMost = std::int64_t{1} << 62;
  if constexpr (kFractions<T>) {
    const double value = static_cast<double>(index);
    if (!(value >= -static_cast<double>(kMost) && value <= static_cast<double>(kMost))) return depth;
  } else if constexpr (static_cast<T>(-1) > static_cast<T>(0)) {
    if (static_cast<std::uint64_t>(index) > static_cast<std::uint64_t>(kMost)) return depth;
  }
  const std::int64_t whole = static_cast<std::int64_t>(index);
  return whole < 0 ? whole + depth : whole;
}

}  // namespace

void scatter_elements_any(const KernelArgs& args, Range range) noexcept {
  const ScatterElementsParams& p = params_of<ScatterElementsParams>(args);
  if (range.begin >= range.end) return;
  std::int64_t total = 1;
  for (std::int64_t d = 0; d < p.rank; ++d) total *= p.shape[d];
  if (total == 0) return;
  if (p.size == 0) return args.report(load_index(args.in[0], p.index_bytes, 0));
  with_reduction(p.type, p.reduction, [&](auto tag, auto reduction) {
    scatter_elements<typename decltype(tag)::type, decltype(reduction)::value>(p, args, total);
  });
}

void scatter_nd_any(const KernelArgs& args, Range range) noexcept {
  const ScatterNdParams& p = params_of<ScatterNdParams>(args);
  if (range.begin >= range.end) return;
  with_reduction(p.type, p.reduction, [&](auto tag, auto reduction) {
    scatter_nd<typename decltype(tag)::type, decltype(reduction)::value>(p, args);
  });
}

void tensor_scatter_any(const KernelArgs& args, Range range) noexcept {
  const TensorScatterParams& p = params_of<TensorScatterParams>(args);
  const std::int64_t* starts = input<std::int64_t>(args, 1);
  for (std::int64_t row = range.begin; row < range.end; ++row) {
    std::int64_t start = starts ? starts[row / p.outer] : 0;
    if (start < 0 || (!p.circular && start > p.size - p.length)) {
      args.report(start);
      continue;
    }
    if (p.size == 0) continue;
    if (p.circular) start %= p.size;
    const char* from = input<char>(args, 0) + row * p.length * p.block;
    char* to = output<char>(args) + row * p.size * p.block;
    const std::int64_t first = min_of(p.length, p.size - start);  // the rest goes around the end
    __builtin_memcpy(to + start * p.block, from, static_cast<std::size_t>(first * p.block));
    __builtin_memcpy(to, from + first * p.block, static_cast<std::size_t>((p.length - first) * p.block));
  }
}

void reverse_sequence_any(const KernelArgs& args, Range range) noexcept {
  const ReverseSequenceParams& p = params_of<ReverseSequenceParams>(args);
  const std::int64_t* lengths = input<std::int64_t>(args, 1);
  const std::int64_t inner = p.batch_first ? p.steps : p.batch;
  for (std::int64_t row = range.begin; row < range.end; ++row) {
    const std::int64_t batch = p.batch_first ? row / inner : row % inner;
    const std::int64_t step = p.batch_first ? row % inner : row / inner;
    const std::int64_t length = lengths[batch];
    if (length < 0 || length > p.steps) {
      args.report(length);
      continue;
    }
    const std::int64_t from = step < length ? length - 1 - step : step;
    const std::int64_t source = p.batch_first ? batch * p.steps + from : from * p.batch + batch;
    __builtin_memcpy(output<char>(args) + row * p.block, input<char>(args, 0) + source * p.block,
                     static_cast<std::size_t>(p.block));
  }
}

void one_hot_any(const KernelArgs& args, Range range) noexcept {
  const OneHotParams& p = params_of<OneHotParams>(args);
  with_size(p.itemsize, [&](auto size) {
    using V = typename decltype(size)::type;
    const V off = input<V>(args, 1)[0], on = input<V>(args, 1)[1];
    with_type(p.type, [&](auto tag) {
      using T = typename decltype(tag)::type;
      for (std::int64_t row = range.begin; row < range.end; ++row) {
        const T* indices = input<T>(args, 0) + row * p.inner;
        V* out = output<V>(args) + row * p.depth * p.inner;
        for (std::int64_t i = 0; i < p.depth * p.inner; ++i) out[i] = off;
        for (std::int64_t i = 0; i < p.inner; ++i) {
          const std::int64_t found = class_of(indices[i], p.depth);
          if (found >= 0 && found < p.depth) out[found * p.inner + i] = on;
        }
      }
    });
  });
}

}  // namespace forwardpass::FORWARDPASS_ISA
