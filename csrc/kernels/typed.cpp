// SPDX-License-Identifier: Apache-2.0
// Element-wise kernels of any type: casts, comparisons, logic, integer arithmetic, selection.
#include "typed.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// As NumPy's astype where that is defined. A float that is NaN or out of an integer's range gives the integer's lowest.
template <class To, class From>
FP_INLINE To convert(From x) {
  if constexpr (kSame<To, bool>) {
    return x != static_cast<From>(0);
  } else if constexpr (kIsFloating<To> || !kIsFloating<From>) {
    return static_cast<To>(x);
  } else {
    // 2^bits is exact in double, so that the comparison is exact too.
    constexpr double end = static_cast<double>(std::uint64_t{1} << (8 * sizeof(To) - 1)) * (kIsSigned<To> ? 1 : 2);
    const double value = static_cast<double>(x);
    const bool inside = value < end && value > (kIsSigned<To> ? -end - 1 : -1.0);
    // At 64 bits -end - 1 rounds to -end, which is inside.
    if (kIsSigned<To> && value == -end) return lowest<To>();
    return inside ? static_cast<To>(value) : lowest<To>();
  }
}

// A bool is read as the byte that it is.
template <class T>
using AsInteger = Choice<kSame<T, bool>, std::uint8_t, T>;

// Out = convert(In), element by element.
template <class To, class From>
void cast_rows(const CastParams& p, const KernelArgs& args, Range range) {
  const Strided<2> s = strided<2>(p.rank, p.shape, {p.in_stride, p.out_stride});
  const std::int64_t si = s.row_stride(0), so = s.row_stride(1);
  const From* in = input<From>(args, 0);
  To* out = output<To>(args);
  for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t n) {
    const From* x = in + offset[0];
    To* y = out + offset[1];
    if (si == 1 && so == 1) {
      for (std::int64_t i = 0; i < n; ++i) y[i] = convert<To>(x[i]);
    } else {
      for (std::int64_t i = 0; i < n; ++i) y[i * so] = convert<To>(x[i * si]);
    }
  });
}

// out[i] = op(a[i], b[i]) over a range of a strided space.
template <class A, class Out, class Op>
void each_pair(const TypedBinaryParams& p, const KernelArgs& args, Range range, Op op) {
  const A* a = input<A>(args, 0);
  const A* b = input<A>(args, 1);
  Out* out = output<Out>(args);
  const Strided<3> s = strided<3>(p.rank, p.shape, {p.a_stride, p.b_stride, p.out_stride});
  const std::int64_t sa = s.row_stride(0), sb = s.row_stride(1), so = s.row_stride(2);
  for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t n) {
    const A* x = a + offset[0];
    const A* y = b + offset[1];
    Out* z = out + offset[2];
    if (sa == 1 && sb == 1 && so == 1) {
      for (std::int64_t i = 0; i < n; ++i) z[i] = op(x[i], y[i]);
    } else if (sa == 1 && sb == 0 && so == 1) {
      const A second = *y;
      for (std::int64_t i = 0; i < n; ++i) z[i] = op(x[i], second);
    } else {
      for (std::int64_t i = 0; i < n; ++i) z[i * so] = op(x[i * sa], y[i * sb]);
    }
  });
}

// Whether the sign of an integer changes what an operation gives.
enum Signs { kAlike, kDifferent };

template <Signs kSigns, class Op>
FP_INLINE void compare(const KernelArgs& args, Range range, Op op) {
  const TypedBinaryParams& p = params_of<TypedBinaryParams>(args);
  with_type(p.type, [&](auto tag) {
    using T = AsInteger<typename decltype(tag)::type>;
    each_pair<Choice<kSigns == kAlike, Modular<T>, T>, bool>(p, args, range, op);
  });
}

// Integers wrap around, so the arithmetic is done in an unsigned type of the same size or wider.
template <Signs kSigns, class Op>
FP_INLINE void integers(const KernelArgs& args, Range range, Op op) {
  const TypedBinaryParams& p = params_of<TypedBinaryParams>(args);
  with_type(p.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Used = Choice<kSigns == kAlike, Modular<T>, T>;
    if constexpr (!kIsFloating<T> && !kSame<T, bool>) each_pair<Used, Used>(p, args, range, op);
  });
}

template <class Op>
FP_INLINE void logic(const KernelArgs& args, Range range, Op op) {
  each_pair<bool, bool>(params_of<TypedBinaryParams>(args), args, range, op);
}

template <class T>
FP_INLINE T quotient(const KernelArgs& args, T a, T b) {
  if (b == 0) {
    args.report(0);
    return 0;
  }
  // The one quotient that does not fit wraps.
  if constexpr (kIsSigned<T>) {
    if (b == static_cast<T>(-1)) return static_cast<T>(0 - static_cast<std::uint64_t>(a));
  }
  return static_cast<T>(a / b);
}

}  // namespace

// The sign of an integer that is read counts where the result is wider, and that of one that is written where it comes
// from a float.
void cast_any(const KernelArgs& args, Range range) noexcept {
  const CastParams& p = params_of<CastParams>(args);
  with_type(p.from, [&](auto from_tag) {
    with_type(p.to, [&](auto to_tag) {
      using From = AsInteger<typename decltype(from_tag)::type>;
      using To = typename decltype(to_tag)::type;
      constexpr bool kNarrower = kSame<To, bool> || (!kIsFloating<To> && sizeof(To) <= sizeof(From));
      cast_rows<Choice<kIsFloating<From>, To, Modular<To>>, Choice<kNarrower, Modular<From>, From>>(p, args, range);
    });
  });
}

void equal_any(const KernelArgs& args, Range range) noexcept {
  compare<kAlike>(args, range, [](auto a, auto b) { return a == b; });
}
void less_any(const KernelArgs& args, Range range) noexcept {
  compare<kDifferent>(args, range, [](auto a, auto b) { return a < b; });
}
void less_or_equal_any(const KernelArgs& args, Range range) noexcept {
  compare<kDifferent>(args, range, [](auto a, auto b) { return a <= b; });
}

void and_bool(const KernelArgs& args, Range range) noexcept {
  logic(args, range, [](bool a, bool b) { return a && b; });
}
void or_bool(const KernelArgs& args, Range range) noexcept {
  logic(args, range, [](bool a, bool b) { return a || b; });
}
void xor_bool(const KernelArgs& args, Range range) noexcept {
  logic(args, range, [](bool a, bool b) { return a != b; });
}

void add_int(const KernelArgs& args, Range range) noexcept {
  integers<kAlike>(args, range, [](auto a, auto b) {
    return static_cast<decltype(a)>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  });
}
void sub_int(const KernelArgs& args, Range range) noexcept {
  integers<kAlike>(args, range, [](auto a, auto b) {
    return static_cast<decltype(a)>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
  });
}
void mul_int(const KernelArgs& args, Range range) noexcept {
  integers<kAlike>(args, range, [](auto a, auto b) {
    return static_cast<decltype(a)>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  });
}
// Truncates toward zero. A division by zero is reported.
void div_int(const KernelArgs& args, Range range) noexcept {
  integers<kDifferent>(args, range, [&](auto a, auto b) { return quotient(args, a, b); });
}
// The remainder has the sign of the divisor, as Python's.
void mod_int(const KernelArgs& args, Range range) noexcept {
  integers<kDifferent>(args, range, [&](auto a, auto b) {
    using T = decltype(a);
    const T q = quotient(args, a, b);
    const T rest =
        static_cast<T>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(q) * static_cast<std::uint64_t>(b));
    return rest != 0 && (rest < 0) != (b < 0) ? static_cast<T>(rest + b) : rest;
  });
}
void min_int(const KernelArgs& args, Range range) noexcept {
  integers<kDifferent>(args, range, [](auto a, auto b) { return a < b ? a : b; });
}
void max_int(const KernelArgs& args, Range range) noexcept {
  integers<kDifferent>(args, range, [](auto a, auto b) { return a > b ? a : b; });
}

void where_any(const KernelArgs& args, Range range) noexcept {
  const WhereParams& p = params_of<WhereParams>(args);
  const bool* condition = input<bool>(args, 0);
  const Strided<4> s = strided<4>(p.rank, p.shape, {p.condition_stride, p.a_stride, p.b_stride, p.out_stride});
  const std::int64_t sc = s.row_stride(0), sa = s.row_stride(1), sb = s.row_stride(2), so = s.row_stride(3);
  with_size(p.itemsize, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* a = input<T>(args, 1);
    const T* b = input<T>(args, 2);
    T* out = output<T>(args);
    for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t n) {
      const bool* c = condition + offset[0];
      const T* x = a + offset[1];
      const T* y = b + offset[2];
      T* z = out + offset[3];
      // Strides that are known let the compiler vectorise.
      if (sc == 1 && so == 1 && sa == 1 && sb == 1) {
        for (std::int64_t i = 0; i < n; ++i) z[i] = c[i] ? x[i] : y[i];
      } else if (sc == 1 && so == 1 && sa == 1 && sb == 0) {
        const T no = *y;
        for (std::int64_t i = 0; i < n; ++i) z[i] = c[i] ? x[i] : no;
      } else if (sc == 1 && so == 1 && sa == 0 && sb == 1) {
        const T yes = *x;
        for (std::int64_t i = 0; i < n; ++i) z[i] = c[i] ? yes : y[i];
      } else {
        for (std::int64_t i = 0; i < n; ++i) z[i * so] = c[i * sc] ? x[i * sa] : y[i * sb];
      }
    });
  });
}

}  // namespace forwardpass::FORWARDPASS_ISA
