// SPDX-License-Identifier: Apache-2.0
// A step of the usual LSTM (sigmoid, tanh, tanh; no peepholes), in registers: the products of some rows' states with
// the four gates of a vector of hidden units, and then those gates. While one vector's gates are calculated, the
// weights of the next one are on their way. The sums are those of brgemm.
#pragma once
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kGates = 4;
constexpr int kCellRows = kRegisters >= 32 ? 6 : 3;  // four sums each, beside the states and the weights of a gate
// Vectors of hidden units at a time: a single row has two where four sums would wait for each other.
constexpr int cell_vectors(int rows) { return rows == 1 && kRegisters < 32 ? 2 : 1; }

// tanh(x) = t / (t + 2) with this t, which is accurate near zero; from x = 20 on the quotient is 1.
FP_INLINE Vec tanh_part(Vec x) { return expm1(min(set1(40.0f), x + x)); }

struct Cell {
  Vec c;
  Vec h;
};

// Divisions are what takes time, so a product of two functions takes one: sigmoid(i) tanh(g) is
// t / ((1 + e^-i) (t + 2)).
FP_INLINE Cell usual_cell(Vec input, Vec output, Vec forget, Vec candidate, Vec c) {
  const Vec in = exp_plus_one(neg(input)), keep = exp_plus_one(neg(forget)), two = set1(2.0f);
  const Vec t = tanh_part(candidate);
  const Vec next = c / keep + t / (in * (t + two));
  const Vec state = tanh_part(next);
  return {next, state / (exp_plus_one(neg(output)) * (state + two))};
}

// What a step reads and writes of each row.
struct CellRow {
  const float* x;  // products with the input
  float* h;
  float* c;
  float* next;  // the new states
};

// kVectors * kLanes hidden units from `column` on. `b` are packed panels of `hidden` rows.
template <int kRows, int kVectors>
void cell_units(const CellRow* rows, const float* b, std::int64_t hidden, std::int64_t column) noexcept {
  constexpr int kSums = kGates * kVectors;
  const float* weights[kSums];
  for (int s = 0; s < kSums; ++s) {
    const std::int64_t at = s % kGates * hidden + column + s / kGates * kLanes;
    weights[s] = b + at / kPanel * hidden * kPanel + at % kPanel;
  }
  Vec sums[kRows][kSums];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int s = 0; s < kSums; ++s) sums[r][s] = zero();
  }
#pragma GCC unroll 2
  for (std::int64_t k = 0; k < hidden; ++k) {
    Vec h[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) h[r] = set1(rows[r].h[k]);
#pragma GCC unroll 8
    for (int s = 0; s < kSums; ++s) {
      const Vec w = load(weights[s] + k * kPanel);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sums[r][s] = fma(h[r], w, sums[r][s]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t at = column + v * kLanes;
      const float* x = rows[r].x + at;
      const Vec* sum = sums[r] + v * kGates;
      const Cell made = usual_cell(load(x) + sum[0], load(x + hidden) + sum[1], load(x + 2 * hidden) + sum[2],
                                   load(x + 3 * hidden) + sum[3], load(rows[r].c + at));
      store(rows[r].c + at, made.c);
      store(rows[r].next + at, made.h);
    }
  }
}

using CellFn = void (*)(const CellRow*, const float*, std::int64_t, std::int64_t) noexcept;

struct CellFns {
  CellFn of[kCellRows + 1];
};

template <int kRows>
constexpr void fill_cells(CellFns& fns) {
  fns.of[kRows] = &cell_units<kRows, cell_vectors(kRows)>;
  if constexpr (kRows < kCellRows) fill_cells<kRows + 1>(fns);
}

constexpr CellFns make_cells() {
  CellFns fns{};
  fill_cells<1>(fns);
  return fns;
}

constexpr CellFns kCells = make_cells();

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
