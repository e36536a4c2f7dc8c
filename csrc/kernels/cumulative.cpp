// SPDX-License-Identifier: Apache-2.0
// CumSum and CumProd. Floats are accumulated in double: a row of any length has the error of one rounding.
#include "typed.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr std::int64_t kColumns = 64;  // rows side by side in memory that are worked on together

// Integers wrap around.
template <class T>
using Accumulator = Choice<kIsFloating<T>, Choice<kSame<T, Half>, float, double>, std::uint64_t>;

struct Axis {
  std::int64_t length;
  std::int64_t in;   // stride
  std::int64_t out;  // stride
  bool exclusive;
};

// n rows, `in_step` and `out_step` apart, n <= kColumns.
template <class T, class Op>
FP_INLINE void accumulate(const T* x, T* y, const Axis& axis, std::int64_t n, std::int64_t in_step,
                          std::int64_t out_step, Accumulator<T> identity, Op op) {
  Accumulator<T> sum[kColumns];
  for (std::int64_t c = 0; c < n; ++c) sum[c] = identity;
  for (std::int64_t i = 0; i < axis.length; ++i, x += axis.in, y += axis.out) {
    if (axis.exclusive) {
      for (std::int64_t c = 0; c < n; ++c) {
        const T value = x[c * in_step];
        y[c * out_step] = static_cast<T>(sum[c]);
        sum[c] = op(sum[c], static_cast<Accumulator<T>>(value));
      }
    } else {
      for (std::int64_t c = 0; c < n; ++c) {
        sum[c] = op(sum[c], static_cast<Accumulator<T>>(x[c * in_step]));
        y[c * out_step] = static_cast<T>(sum[c]);
      }
    }
  }
}

// One row, whose sum stays in a register.
template <class T, class Op>
FP_INLINE void accumulate(const T* x, T* y, const Axis& axis, Accumulator<T> identity, Op op) {
  Accumulator<T> sum = identity;
  for (std::int64_t i = 0; i < axis.length; ++i) {
    const Accumulator<T> next = op(sum, static_cast<Accumulator<T>>(x[i * axis.in]));
    y[i * axis.out] = static_cast<T>(axis.exclusive ? sum : next);
    sum = next;
  }
}

template <class T, class Op>
void accumulate_all(const CumulativeParams& p, const KernelArgs& args, Range range, Accumulator<T> start, Op op) {
  const Strided<2> s = strided<2>(p.rank, p.shape, {p.in_stride, p.out_stride});
  const std::int64_t si = s.row_stride(0), so = s.row_stride(1);
  const std::int64_t first = p.reverse ? p.length - 1 : 0, sign = p.reverse ? -1 : 1;
  const Axis axis = {p.length, sign * p.in_axis, sign * p.out_axis, p.exclusive != 0};
  for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t count) {
    const T* x = input<T>(args, 0) + offset[0] + first * p.in_axis;
    T* y = output<T>(args) + offset[1] + first * p.out_axis;
    if (si == 1 && so == 1 && p.in_axis != 1) {
      for (std::int64_t i = 0; i < count; i += kColumns) {
        accumulate(x + i, y + i, axis, min_of(kColumns, count - i), 1, 1, start, op);
      }
    } else {
      for (std::int64_t i = 0; i < count; ++i) accumulate(x + i * si, y + i * so, axis, start, op);
    }
  });
}

template <class Op>
FP_INLINE void cumulative(const KernelArgs& args, Range range, int identity, Op op) {
  const CumulativeParams& p = params_of<CumulativeParams>(args);
  if (p.length <= 0) return;
  with_type(p.type, [&](auto tag) {
    using T = Modular<typename decltype(tag)::type>;
    if constexpr (!kSame<T, bool>) accumulate_all<T>(p, args, range, static_cast<Accumulator<T>>(identity), op);
  });
}

}  // namespace

void cumulative_sum_any(const KernelArgs& args, Range range) noexcept {
  cumulative(args, range, 0, [](auto a, auto b) { return a + b; });
}
void cumulative_prod_any(const KernelArgs& args, Range range) noexcept {
  cumulative(args, range, 1, [](auto a, auto b) { return a * b; });
}

}  // namespace forwardpass::FORWARDPASS_ISA
