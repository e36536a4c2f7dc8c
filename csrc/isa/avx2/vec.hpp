// SPDX-License-Identifier: Apache-2.0
// The vector primitives for AVX2 with FMA. isa/scalar/vec.hpp defines the meaning of each.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace forwardpass::FORWARDPASS_ISA {

#define FP_INLINE [[gnu::always_inline]] static inline

inline constexpr int kLanes = 8;

struct Vec {
  __m256 v;
};
struct IVec {
  __m256i v;
};
struct Mask {
  __m256 v;
};

FP_INLINE Vec zero() { return {_mm256_setzero_ps()}; }
FP_INLINE Vec set1(float x) { return {_mm256_set1_ps(x)}; }
FP_INLINE IVec iset1(std::int32_t x) { return {_mm256_set1_epi32(x)}; }

FP_INLINE __m256i first(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FP_INLINE Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
FP_INLINE Vec load(const float* p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
FP_INLINE Vec load(const std::uint16_t* p) {
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16))};
}
FP_INLINE void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
FP_INLINE void stream(float* p, Vec a) { _mm256_stream_ps(p, a.v); }
FP_INLINE void fence() { _mm_sfence(); }
// By pieces: a masked store takes 12 cycles on AMD's processors up to Zen 3.
FP_INLINE void store(float* p, Vec a, int n) {
  __m128 x = _mm256_castps256_ps128(a.v);
  if (n >= kLanes) return store(p, a);
  if (n >= 4) {
    _mm_storeu_ps(p, x);
    x = _mm256_extractf128_ps(a.v, 1);
    p += 4;
  }
  if (n & 2) {
    _mm_storel_pi(reinterpret_cast<__m64*>(p), x);
    x = _mm_movehl_ps(x, x);
    p += 2;
  }
  if (n & 1) _mm_store_ss(p, x);
}
FP_INLINE Vec gather(const float* p, std::int64_t stride) {
  const float* q = p + 4 * stride;
  return {_mm256_setr_ps(p[0], p[stride], p[2 * stride], p[3 * stride], q[0], q[stride], q[2 * stride], q[3 * stride])};
}

FP_INLINE Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
FP_INLINE Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
FP_INLINE Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
FP_INLINE Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
FP_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
FP_INLINE Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
FP_INLINE Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
FP_INLINE Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
FP_INLINE Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
FP_INLINE Vec floor(Vec a) { return {_mm256_floor_ps(a.v)}; }
FP_INLINE Vec ceil(Vec a) { return {_mm256_ceil_ps(a.v)}; }
FP_INLINE Vec round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
FP_INLINE Vec abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
FP_INLINE Vec neg(Vec a) { return {_mm256_xor_ps(_mm256_set1_ps(-0.0f), a.v)}; }
FP_INLINE Vec copysign(Vec magnitude, Vec sign) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_andnot_ps(bit, magnitude.v), _mm256_and_ps(bit, sign.v))};
}

FP_INLINE Mask operator<(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
FP_INLINE Mask operator<=(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
FP_INLINE Mask operator>(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
FP_INLINE Mask operator>=(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)}; }
FP_INLINE Mask operator==(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
FP_INLINE Mask is_nan(Vec a) { return {_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)}; }
FP_INLINE Mask operator&(Mask a, Mask b) { return {_mm256_and_ps(a.v, b.v)}; }
FP_INLINE Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.v, b.v)}; }
FP_INLINE Mask operator~(Mask a) { return {_mm256_xor_ps(a.v, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))}; }
FP_INLINE bool any(Mask a) { return _mm256_movemask_ps(a.v) != 0; }
FP_INLINE Vec select(Mask m, Vec yes, Vec no) { return {_mm256_blendv_ps(no.v, yes.v, m.v)}; }

FP_INLINE IVec bits(Vec a) { return {_mm256_castps_si256(a.v)}; }
FP_INLINE Vec from_bits(IVec a) { return {_mm256_castsi256_ps(a.v)}; }
FP_INLINE IVec to_int(Vec a) { return {_mm256_cvtps_epi32(a.v)}; }
FP_INLINE Vec to_float(IVec a) { return {_mm256_cvtepi32_ps(a.v)}; }
FP_INLINE IVec operator+(IVec a, IVec b) { return {_mm256_add_epi32(a.v, b.v)}; }
FP_INLINE IVec operator-(IVec a, IVec b) { return {_mm256_sub_epi32(a.v, b.v)}; }
FP_INLINE IVec operator&(IVec a, IVec b) { return {_mm256_and_si256(a.v, b.v)}; }
FP_INLINE IVec operator|(IVec a, IVec b) { return {_mm256_or_si256(a.v, b.v)}; }
FP_INLINE IVec operator^(IVec a, IVec b) { return {_mm256_xor_si256(a.v, b.v)}; }
template <int kBits>
FP_INLINE IVec shift_left(IVec a) {
  return {_mm256_slli_epi32(a.v, kBits)};
}
template <int kBits>
FP_INLINE IVec shift_right(IVec a) {
  return {_mm256_srai_epi32(a.v, kBits)};
}

}  // namespace forwardpass::FORWARDPASS_ISA
