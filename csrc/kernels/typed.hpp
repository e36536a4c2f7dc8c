// SPDX-License-Identifier: Apache-2.0
// Kernels whose element type is a parameter: plain C++ loops over rows, which the compiler vectorises for its ISA.
#pragma once
#include "strided.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

using Half = _Float16;

// A type as a value, for generic lambdas.
template <class T>
struct Tag {
  using type = T;
};

// static_cast<bool>(0.5f) is true, so bool would pass for a floating type by its value alone.
template <class T, class U>
constexpr bool kSame = false;
template <class T>
constexpr bool kSame<T, T> = true;
template <class T>
constexpr bool kIsFloating = !kSame<T, bool> && static_cast<T>(0.5f) != static_cast<T>(0);
template <class T>
constexpr bool kIsSigned = static_cast<T>(-1) < static_cast<T>(0);

template <bool kFirst, class A, class B>
struct ChoiceOf {
  using type = A;
};
template <class A, class B>
struct ChoiceOf<false, A, B> {
  using type = B;
};
template <bool kFirst, class A, class B>
using Choice = typename ChoiceOf<kFirst, A, B>::type;

// The unsigned integer of as many bytes, for elements that are only moved.
template <class T>
using Bytes = Choice<sizeof(T) == 1, std::uint8_t,
                     Choice<sizeof(T) == 2, std::uint16_t, Choice<sizeof(T) == 4, std::uint32_t, std::uint64_t>>>;

// Integers that wrap around take the code of the unsigned ones, which then is there once: functions of such types are
// not inlined.
template <class T>
using Modular = Choice<kIsFloating<T> || kSame<T, bool>, T, Bytes<T>>;

// The ends of an integer's range.
template <class T>
constexpr T lowest() {
  return kIsSigned<T> ? static_cast<T>(std::uint64_t{1} << (8 * sizeof(T) - 1)) : static_cast<T>(0);
}
template <class T>
constexpr T highest() {
  return kSame<T, bool> ? static_cast<T>(1) : static_cast<T>(~static_cast<std::uint64_t>(lowest<T>()));
}

// body(Tag<T>{}) for the element type of that index.
template <class Body>
FP_INLINE void with_type(std::int64_t type, Body body) {
  switch (type) {
#define TYPE(name, T) \
  case k_type_##name: \
    return body(Tag<T>{});
#include "types.def"
#undef TYPE
  }
}

// body(Tag<U>{}) for the unsigned integer of as many bytes: for elements that are only moved.
template <class Body>
FP_INLINE void with_size(std::int64_t bytes, Body body) {
  switch (bytes) {
    case 1:
      return body(Tag<std::uint8_t>{});
    case 2:
      return body(Tag<std::uint16_t>{});
    case 4:
      return body(Tag<std::uint32_t>{});
    case 8:
      return body(Tag<std::uint64_t>{});
  }
}

template <class T>
FP_INLINE const T* input(const KernelArgs& args, int index) {
  return static_cast<const T*>(args.in[index]);
}

template <class T>
FP_INLINE T* output(const KernelArgs& args) {
  return static_cast<T*>(args.out);
}

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
