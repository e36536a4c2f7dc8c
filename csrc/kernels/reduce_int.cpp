// SPDX-License-Identifier: Apache-2.0
// Reductions of integers and bools: exact but for the wrapping of integers, so that their order does not matter.
#include "typed.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr std::int64_t kColumns = 64;  // outputs side by side in memory that are reduced together

// n <= kColumns outputs, `step` apart in the input. `op(sum, x)` adds an element.
template <class T, class Sum, class Op>
FP_INLINE void reduce_some(const T* x, std::int64_t n, std::int64_t step, const Strided<1>& reduced, std::int64_t count,
                           Sum* sum, Op op) {
  const std::int64_t stride = reduced.row_stride(0);
  for_each_row(reduced, {0, count}, [&](const std::int64_t* offset, std::int64_t length) {
    const T* p = x + offset[0];
    if (n == 1 && stride == 1) {
      Sum one = sum[0];
      for (std::int64_t i = 0; i < length; ++i) one = op(one, p[i]);
      sum[0] = one;
    } else {
      for (std::int64_t i = 0; i < length; ++i) {
        for (std::int64_t c = 0; c < n; ++c) sum[c] = op(sum[c], p[i * stride + c * step]);
      }
    }
  });
}

// out = finish(op(... op(start, x0) ..., xn), count) for every output.
template <class T, class Sum, class Op, class Finish>
void reduce(const KernelArgs& args, Range range, Sum start, Op op, Finish finish) {
  const TypedReduceParams& p = params_of<TypedReduceParams>(args);
  const Strided<2> kept = strided<2>(p.kept_rank, p.kept, {p.kept_stride, p.out_stride});
  const Strided<1> reduced = strided<1>(p.reduced_rank, p.reduced, {p.reduced_stride});
  std::int64_t elements = 1;
  for (std::int64_t d = 0; d < p.reduced_rank; ++d) elements *= p.reduced[d];
  const bool columns = kept.row_stride(0) == 1 && reduced.row_stride(0) != 1;
  for_each_row(kept, range, [&](const std::int64_t* offset, std::int64_t count) {
    const T* x = input<T>(args, 0) + offset[0];
    T* y = output<T>(args) + offset[1];
    for (std::int64_t i = 0; i < count;) {
      const std::int64_t n = columns ? min_of(kColumns, count - i) : 1;
      Sum sum[kColumns];
      for (std::int64_t c = 0; c < n; ++c) sum[c] = start;
      reduce_some(x + i * kept.row_stride(0), n, 1, reduced, elements, sum, op);
      for (std::int64_t c = 0; c < n; ++c) y[(i + c) * kept.row_stride(1)] = finish(sum[c], elements);
      i += n;
    }
  });
}

template <class T>
FP_INLINE std::uint64_t wide(T x) {
  return static_cast<std::uint64_t>(x);
}

// A sum modulo 2^64 wraps to the type of its result.
template <class T>
struct Wrap {
  [[gnu::always_inline]] T operator()(std::uint64_t sum, std::int64_t) const { return static_cast<T>(sum); }
};

// Sums of terms modulo 2^64, which are the same for both signs.
template <class Op>
FP_INLINE void sums(const KernelArgs& args, Range range, std::uint64_t start, Op op) {
  with_type(params_of<TypedReduceParams>(args).type, [&](auto tag) {
    using T = Modular<typename decltype(tag)::type>;
    if constexpr (!kIsFloating<T> && !kSame<T, bool>) reduce<T>(args, range, start, op, Wrap<T>{});
  });
}

template <bool kLargest>
FP_INLINE void extremes(const KernelArgs& args, Range range) {
  with_type(params_of<TypedReduceParams>(args).type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (!kIsFloating<T>) {
      const auto keep = [](T sum, std::int64_t) { return sum; };
      if constexpr (kLargest) {
        reduce<T>(args, range, lowest<T>(), [](T a, T b) { return a > b ? a : b; }, keep);
      } else {
        reduce<T>(args, range, highest<T>(), [](T a, T b) { return a < b ? a : b; }, keep);
      }
    }
  });
}

}  // namespace

void reduce_sum_int(const KernelArgs& args, Range range) noexcept {
  sums(args, range, 0, [](std::uint64_t sum, auto x) { return sum + wide(x); });
}
void reduce_prod_int(const KernelArgs& args, Range range) noexcept {
  sums(args, range, 1, [](std::uint64_t sum, auto x) { return sum * wide(x); });
}
void reduce_l1_int(const KernelArgs& args, Range range) noexcept {
  with_type(params_of<TypedReduceParams>(args).type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (!kIsFloating<T> && kIsSigned<T>) {
      const auto add = [](std::uint64_t sum, T x) { return x < 0 ? sum - wide(x) : sum + wide(x); };
      reduce<T>(args, range, std::uint64_t{0}, add, Wrap<T>{});
    } else {
      reduce_sum_int(args, range);
    }
  });
}
void reduce_sum_square_int(const KernelArgs& args, Range range) noexcept {
  sums(args, range, 0, [](std::uint64_t sum, auto x) { return sum + wide(x) * wide(x); });
}

// Truncated toward zero. There is at least one element.
void reduce_mean_int(const KernelArgs& args, Range range) noexcept {
  with_type(params_of<TypedReduceParams>(args).type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (!kIsFloating<T> && !kSame<T, bool>) {
      reduce<T>(
          args, range, std::uint64_t{0}, [](std::uint64_t sum, T x) { return sum + wide(x); },
          [](std::uint64_t sum, std::int64_t count) {
            if constexpr (kIsSigned<T>) return static_cast<T>(static_cast<std::int64_t>(sum) / count);
            return static_cast<T>(sum / static_cast<std::uint64_t>(count));
          });
    }
  });
}

void reduce_max_any(const KernelArgs& args, Range range) noexcept { extremes<true>(args, range); }
void reduce_min_any(const KernelArgs& args, Range range) noexcept { extremes<false>(args, range); }

}  // namespace forwardpass::FORWARDPASS_ISA
