// SPDX-License-Identifier: Apache-2.0
// Several vectors at once, operation by operation: where each operation of a long function waits for the one before,
// the others fill the time. The functions of math.hpp that are templates take them.
#pragma once
#include "math.hpp"

namespace forwardpass::FORWARDPASS_ISA {

template <int kN>
struct Vecs {
  Vec of[kN];

  Vecs() = default;
  [[gnu::always_inline]] explicit Vecs(Vec all) {
    each([&](int i) __attribute__((always_inline)) { of[i] = all; });
  }

  template <class F>
  [[gnu::always_inline]] static void each(F f) {
#pragma GCC unroll 16
    for (int i = 0; i < kN; ++i) f(i);
  }
  // f of each.
  template <class F>
  [[gnu::always_inline]] static Vecs made(F f) {
    Vecs out;
    each([&](int i) __attribute__((always_inline)) { out.of[i] = f(i); });
    return out;
  }

  [[gnu::always_inline]] friend Vecs operator+(const Vecs& a, const Vecs& b) {
    return made([&](int i) __attribute__((always_inline)) { return a.of[i] + b.of[i]; });
  }
  [[gnu::always_inline]] friend Vecs operator-(const Vecs& a, const Vecs& b) {
    return made([&](int i) __attribute__((always_inline)) { return a.of[i] - b.of[i]; });
  }
  [[gnu::always_inline]] friend Vecs operator*(const Vecs& a, const Vecs& b) {
    return made([&](int i) __attribute__((always_inline)) { return a.of[i] * b.of[i]; });
  }
  [[gnu::always_inline]] friend Vecs operator/(const Vecs& a, const Vecs& b) {
    return made([&](int i) __attribute__((always_inline)) { return a.of[i] / b.of[i]; });
  }
  [[gnu::always_inline]] friend Vecs fma(const Vecs& a, const Vecs& b, const Vecs& c) {
    return made([&](int i) __attribute__((always_inline)) { return fma(a.of[i], b.of[i], c.of[i]); });
  }
  [[gnu::always_inline]] friend Vecs fnma(const Vecs& a, const Vecs& b, const Vecs& c) {
    return made([&](int i) __attribute__((always_inline)) { return fnma(a.of[i], b.of[i], c.of[i]); });
  }
  [[gnu::always_inline]] friend Vecs min(const Vecs& a, const Vecs& b) {
    return made([&](int i) __attribute__((always_inline)) { return min(a.of[i], b.of[i]); });
  }
  [[gnu::always_inline]] friend Vecs max(const Vecs& a, const Vecs& b) {
    return made([&](int i) __attribute__((always_inline)) { return max(a.of[i], b.of[i]); });
  }
  [[gnu::always_inline]] friend Vecs neg(const Vecs& a) {
    return made([&](int i) __attribute__((always_inline)) { return neg(a.of[i]); });
  }
  [[gnu::always_inline]] friend Vecs power_from_bits(const Vecs& a) {
    return made([&](int i) __attribute__((always_inline)) { return power_from_bits(a.of[i]); });
  }
};

}  // namespace forwardpass::FORWARDPASS_ISA
