// SPDX-License-Identifier: Apache-2.0
// The vector primitives of this ISA, here for one lane of portable C++. Every ISA defines the same names with the
// same meaning to the last bit, so this file is also their definition.
#pragma once
#include <cstdint>
#include <cstring>

namespace forwardpass::FORWARDPASS_ISA {

#define FP_INLINE [[gnu::always_inline]] static inline

inline constexpr int kLanes = 1;

struct Vec {
  float v;
};
struct IVec {
  std::int32_t v;
};
struct Mask {
  bool v;
};

FP_INLINE Vec zero() { return {0.0f}; }
FP_INLINE Vec set1(float x) { return {x}; }
FP_INLINE IVec iset1(std::int32_t x) { return {x}; }

// The first n lanes (0 <= n <= kLanes); lanes beyond are zero, and memory beyond is not touched.
FP_INLINE Vec load(const float* p) { return {*p}; }
FP_INLINE Vec load(const float* p, int n) { return {n > 0 ? *p : 0.0f}; }
// bfloat16 numbers, which are the upper halves of float32 ones.
FP_INLINE Vec load(const std::uint16_t* p) {
  const std::uint32_t bits = static_cast<std::uint32_t>(*p) << 16;
  Vec r;
  std::memcpy(&r.v, &bits, 4);
  return r;
}
FP_INLINE void store(float* p, Vec a) { *p = a.v; }
// Past the caches, to an address that is a multiple of a vector's bytes. Other threads see it after a `fence`.
FP_INLINE void stream(float* p, Vec a) { *p = a.v; }
FP_INLINE void fence() {}
FP_INLINE void store(float* p, Vec a, int n) {
  if (n > 0) *p = a.v;
}
// Lanes p[0], p[stride], p[2 * stride], ...
FP_INLINE Vec gather(const float* p, std::int64_t) { return {*p}; }

FP_INLINE Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
FP_INLINE Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
FP_INLINE Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
FP_INLINE Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
FP_INLINE Vec fma(Vec a, Vec b, Vec c) { return {__builtin_fmaf(a.v, b.v, c.v)}; }    // a * b + c, rounded once
FP_INLINE Vec fnma(Vec a, Vec b, Vec c) { return {__builtin_fmaf(-a.v, b.v, c.v)}; }  // c - a * b, rounded once
// Where a or b is NaN, and where they are equal: b. This is what x86 does; its instruction also flushes a denormal
// result to zero where the caller asked for that, while the compiler's choice for a conditional may or may not.
#if defined(__SSE__)
FP_INLINE Vec min(Vec a, Vec b) {
  asm("minss %1, %0" : "+x"(a.v) : "x"(b.v));
  return a;
}
FP_INLINE Vec max(Vec a, Vec b) {
  asm("maxss %1, %0" : "+x"(a.v) : "x"(b.v));
  return a;
}
#else
FP_INLINE Vec min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }
FP_INLINE Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
#endif
FP_INLINE Vec sqrt(Vec a) { return {__builtin_sqrtf(a.v)}; }
FP_INLINE Vec floor(Vec a) { return {__builtin_floorf(a.v)}; }
FP_INLINE Vec ceil(Vec a) { return {__builtin_ceilf(a.v)}; }
FP_INLINE Vec round(Vec a) { return {__builtin_rintf(a.v)}; }  // ties to even
FP_INLINE Vec abs(Vec a) { return {__builtin_fabsf(a.v)}; }
FP_INLINE Vec neg(Vec a) { return {-a.v}; }
FP_INLINE Vec copysign(Vec magnitude, Vec sign) { return {__builtin_copysignf(magnitude.v, sign.v)}; }

// False where a or b is NaN.
FP_INLINE Mask operator<(Vec a, Vec b) { return {a.v < b.v}; }
FP_INLINE Mask operator<=(Vec a, Vec b) { return {a.v <= b.v}; }
FP_INLINE Mask operator>(Vec a, Vec b) { return {a.v > b.v}; }
FP_INLINE Mask operator>=(Vec a, Vec b) { return {a.v >= b.v}; }
FP_INLINE Mask operator==(Vec a, Vec b) { return {a.v == b.v}; }
FP_INLINE Mask is_nan(Vec a) { return {a.v != a.v}; }
FP_INLINE Mask operator&(Mask a, Mask b) { return {a.v && b.v}; }
FP_INLINE Mask operator|(Mask a, Mask b) { return {a.v || b.v}; }
FP_INLINE Mask operator~(Mask a) { return {!a.v}; }
FP_INLINE bool any(Mask a) { return a.v; }
FP_INLINE Vec select(Mask m, Vec yes, Vec no) { return m.v ? yes : no; }

// The bits of the float and back.
FP_INLINE IVec bits(Vec a) {
  IVec r;
  std::memcpy(&r.v, &a.v, 4);
  return r;
}
FP_INLINE Vec from_bits(IVec a) {
  Vec r;
  std::memcpy(&r.v, &a.v, 4);
  return r;
}
FP_INLINE IVec to_int(Vec a) { return {static_cast<std::int32_t>(__builtin_rintf(a.v))}; }  // |a| < 2^31
FP_INLINE Vec to_float(IVec a) { return {static_cast<float>(a.v)}; }
FP_INLINE IVec operator+(IVec a, IVec b) {
  return {static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v) + static_cast<std::uint32_t>(b.v))};
}
FP_INLINE IVec operator-(IVec a, IVec b) {
  return {static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v) - static_cast<std::uint32_t>(b.v))};
}
FP_INLINE IVec operator&(IVec a, IVec b) { return {a.v & b.v}; }
FP_INLINE IVec operator|(IVec a, IVec b) { return {a.v | b.v}; }
FP_INLINE IVec operator^(IVec a, IVec b) { return {a.v ^ b.v}; }
template <int kBits>
FP_INLINE IVec shift_left(IVec a) {
  return {static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v) << kBits)};
}
template <int kBits>
FP_INLINE IVec shift_right(IVec a) {  // arithmetic
  return {a.v >> kBits};
}

}  // namespace forwardpass::FORWARDPASS_ISA
