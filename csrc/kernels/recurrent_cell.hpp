// SPDX-License-Identifier: Apache-2.0
// A step of the usual LSTM (sigmoid, tanh, tanh; no peepholes) or GRU (sigmoid, tanh; linear before the reset): the
// products of some rows' states with the gates of some hidden units, which stay in L1, and then those gates. The sums
// are those of brgemm.
#pragma once
#include "kernels.hpp"
#include "lockstep.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// kN vectors of a row, at the same place of several rows; the last one of a row may be a part.
template <int kN>
struct Whole {
  static constexpr int kVectors = kN;
  std::int64_t at;
  [[gnu::always_inline]] Vecs<kN> read(const float* row) const {
    return Vecs<kN>::made([&](int i) __attribute__((always_inline)) { return load(row + at + i * kLanes); });
  }
  [[gnu::always_inline]] void write(float* row, const Vecs<kN>& v) const {
    Vecs<kN>::each([&](int i) __attribute__((always_inline)) { store(row + at + i * kLanes, v.of[i]); });
  }
};
struct Part {
  static constexpr int kVectors = 1;
  std::int64_t at;
  int count;
  [[gnu::always_inline]] Vecs<1> read(const float* row) const { return Vecs<1>(load(row + at, count)); }
  [[gnu::always_inline]] void write(float* row, const Vecs<1>& v) const { store(row + at, v.of[0], count); }
};

// f for all of n numbers, kN vectors at a time.
template <int kN, class F>
FP_INLINE void for_each_vector(std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + kN * kLanes <= n; i += kN * kLanes) f(Whole<kN>{i});
  if constexpr (kN > 1) {
    for (; i + kLanes <= n; i += kLanes) f(Whole<1>{i});
  }
  if (i < n) f(Part{i, static_cast<int>(n - i)});
}

// What a step reads and writes of each row.
struct CellRow {
  const float* x;  // products with the input
  float* h;
  float* c;
  float* next;  // the new states
};

// Rows whose sums are in registers together, beside their states and the weights of a gate.
template <int kGates>
constexpr int kSumRows = kRegisters >= 32 ? 6
                         : kGates == 4    ? 3
                                          : 4;
// Vectors of hidden units at a time: a single row has two where so few sums would wait for each other.
template <int kGates>
constexpr int sum_vectors(int rows) {
  return rows == 1 && (kRegisters < 32 || kGates < 4) ? 2 : 1;
}

// Where the packed weights of a hidden unit begin, of panels of `hidden` rows.
FP_INLINE const float* weights_at(const float* b, std::int64_t hidden, std::int64_t unit) {
  return b + unit / kPanel * hidden * kPanel + unit % kPanel;
}

// Products of `length` states with the gates of sum_vectors hidden units, whose weights begin at `b`. The sums of a row
// are [gate][width], one row after another.
template <int kGates, int kRows>
void sum_units(const CellRow* rows, const float* b, std::int64_t hidden, std::int64_t length, float* out,
               std::int64_t width) noexcept {
  constexpr int kSums = kGates * sum_vectors<kGates>(kRows);
  // Simple sums: the first loads wait for them.
  const std::int64_t gate = hidden * hidden, next = kPanel == kLanes ? hidden * kLanes : kLanes;
  const float* weights[kSums];
#pragma GCC unroll 8
  for (int s = 0; s < kSums; ++s) {
    weights[s] = s == 0 ? b : s % kGates == 0 ? weights[s - kGates] + next : weights[s - 1] + gate;
  }
  Vec sums[kRows][kSums];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int s = 0; s < kSums; ++s) sums[r][s] = zero();
  }
  // What waits in registers beside the sums: the states of all rows, or all weights where there is no room for those.
  constexpr bool kKeepsWeights = kSums < kRows && kRows * kSums + kRows >= kRegisters;
#pragma GCC unroll 2
  for (std::int64_t k = 0; k < length; ++k) {
    if constexpr (kKeepsWeights) {
      Vec w[kSums];
#pragma GCC unroll 8
      for (int s = 0; s < kSums; ++s) w[s] = load(weights[s] + k * kPanel);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Vec h = set1(rows[r].h[k]);
#pragma GCC unroll 8
        for (int s = 0; s < kSums; ++s) sums[r][s] = fma(h, w[s], sums[r][s]);
      }
    } else {
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
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int s = 0; s < kSums; ++s) store(out + (r * kGates + s % kGates) * width + s / kGates * kLanes, sums[r][s]);
  }
}

using SumFn = void (*)(const CellRow*, const float*, std::int64_t, std::int64_t, float*, std::int64_t) noexcept;

template <int kGates>
struct SumFns {
  SumFn of[kSumRows<kGates> + 1];
};

template <int kGates, int kRows>
constexpr void fill_sums(SumFns<kGates>& fns) {
  fns.of[kRows] = &sum_units<kGates, kRows>;
  if constexpr (kRows < kSumRows<kGates>) fill_sums<kGates, kRows + 1>(fns);
}

template <int kGates>
constexpr SumFns<kGates> make_sums() {
  SumFns<kGates> fns{};
  fill_sums<kGates, 1>(fns);
  return fns;
}

template <int kGates>
constexpr SumFns<kGates> kSumFns = make_sums<kGates>();

// Adds the products of states from `k` on, of a later chunk.
template <int kGates>
[[gnu::noinline]] void add_chunk(SumFn sum, const CellRow* rows, std::int64_t count, const float* b,
                                 std::int64_t hidden, std::int64_t k, std::int64_t length, float* out,
                                 std::int64_t width) {
  const std::int64_t columns = sum_vectors<kGates>(static_cast<int>(count)) * kLanes;
  CellRow later[kSumRows<kGates>] = {};
  alignas(64) float sums[kSumRows<kGates> * kGates * 2 * kLanes] = {};
  for (std::int64_t r = 0; r < count; ++r) {
    later[r] = rows[r];
    later[r].h += k;
  }
  sum(later, b + k * kPanel, hidden, length, sums, columns);
  for (std::int64_t i = 0; i < count * kGates; ++i) {
    for (std::int64_t v = 0; v < columns; v += kLanes) {
      float* at = out + i * width + v;
      store(at, load(at) + load(sums + i * columns + v));
    }
  }
}

// Gates have a shorter exponential than others: ln2 in a single float32, which moves e^x by 2.8e-9 |x| of it, and a fit
// of e^r - 1 for |r| <= ln2 / 2 alone: 1.4e-8. Errors are up to 2.3 ULP for sigmoids of |x| < 16,
// and 2.5 for tanh.
constexpr float kTail[] = {4.999999702e-1f, 1.666654646e-1f, 4.166743532e-2f, 8.366261609e-3f, 1.387065626e-3f};
constexpr float kLn2 = 0.693147182f;

// e^-x + one, with |x| cut off at `limit` <= 87.
template <class V>
FP_INLINE V power(V x, float limit, V one) {
  x = max(V{set1(-limit)}, min(V{set1(limit)}, x));
  const V rounded = fma(x, V{set1(-kLog2e)}, V{set1(kRounder)});
  const V r = fma(rounded - V{set1(kRounder)}, V{set1(kLn2)}, x), scale = power_from_bits(rounded);
  const V part = fnma(polynomial(r, kTail[0], -kTail[1], kTail[2], -kTail[3], kTail[4]), r * r, r);  // 1 - e^-r
  return fnma(part, scale, scale + one);
}

// tanh(x) = t / (t + 1) with this t = (e^2x - 1) / 2, which is accurate near zero. From x = 20 on the quotient is 1.
template <class V>
FP_INLINE V tanh_part(V x) {
  x = max(V{set1(-20.0f)}, min(V{set1(20.0f)}, x));
  const V rounded = fma(x, V{set1(2 * kLog2e)}, V{set1(kRounder)});
  const V r = fnma(rounded - V{set1(kRounder)}, V{set1(kLn2 / 2)}, x), scale = power_from_bits(rounded);
  const V tail = polynomial(r, 2 * kTail[0], 4 * kTail[1], 8 * kTail[2], 16 * kTail[3], 32 * kTail[4]);
  return fma(fma(tail, r * r, r), scale, fma(scale, V{set1(0.5f)}, V{set1(-0.5f)}));
}

// kAll / kN parts, side by side, and one of them again.
template <int kAll, int kN>
FP_INLINE Vecs<kAll> joined(const Vecs<kN> (&parts)[kAll / kN]) {
  return Vecs<kAll>::made([&](int i) __attribute__((always_inline)) { return parts[i / kN].of[i % kN]; });
}
template <int kN, int kAll>
FP_INLINE Vecs<kN> part_of(const Vecs<kAll>& all, int k) {
  return Vecs<kN>::made([&](int i) __attribute__((always_inline)) { return all.of[k * kN + i]; });
}

// A cell has two parts, since the second is one long chain of operations per vector: as a loop of its own the chains of
// several vectors overlap. Between the parts its operands are in the place of the sums.

// Gates i, o, f, candidate. Divisions are slow, so a product of two functions takes one: sigmoid(i) tanh(g) is
// t / ((1 + e^-i) (t + 1)).
struct Lstm {
  static constexpr int kGates = 4;
  static constexpr int kTogether = kRegisters >= 32 ? 2 : 1;  // vectors

  // At the place `v` of a row; the sums of the gates are `stride` from one to the next, as the products with the
  // input are `hidden`.
  template <class At>
  [[gnu::always_inline]] static void gates(At v, const CellRow& row, float* sums, std::int64_t stride,
                                           std::int64_t hidden, const float*) {
    constexpr int kN = At::kVectors;
    using V = Vecs<kN>;
    const auto gate = [&](int k) __attribute__((always_inline)) {
      return v.read(row.x + k * hidden) + v.read(sums + k * stride);
    };
    const auto e = power(joined<3 * kN, kN>({gate(0), gate(1), gate(2)}), 87.0f, Vecs<3 * kN>{set1(1.0f)});
    const V t = tanh_part(gate(3));
    v.write(row.c, v.read(row.c) / part_of<kN>(e, 2) + t / (part_of<kN>(e, 0) * (t + V{set1(1.0f)})));
    v.write(sums + stride, part_of<kN>(e, 1));
  }

  template <class At>
  [[gnu::always_inline]] static void state(At v, const CellRow& row, const float* sums, std::int64_t stride) {
    const auto t = tanh_part(v.read(row.c));
    v.write(row.next, t / (v.read(sums + stride) * (t + Vecs<At::kVectors>{set1(1.0f)})));
  }
};

// Gates z, r, candidate, whose product with the state has a bias of its own, or none. With e = e^-z and the t of the
// candidate's tanh, (1 - sigmoid(z)) tanh(g) + sigmoid(z) h is (e t + h (t + 1)) / ((1 + e) (t + 1)). The largest e and
// t are such that no product overflows; the smallest sigmoid(z) is 8e-20.
struct Gru {
  static constexpr int kGates = 3;
  static constexpr int kTogether = kRegisters >= 32 ? 2 : 1;

  template <class At>
  [[gnu::always_inline]] static void gates(At v, const CellRow& row, float* sums, std::int64_t stride,
                                           std::int64_t hidden, const float* bias) {
    constexpr int kN = At::kVectors;
    using V = Vecs<kN>;
    const V z = v.read(row.x) + v.read(sums), r = v.read(row.x + hidden) + v.read(sums + stride);
    const auto e = power(joined<2 * kN, kN>({z, r}), 44.0f, joined<2 * kN, kN>({V{zero()}, V{set1(1.0f)}}));
    V state = v.read(sums + 2 * stride);
    if (bias) state = state + v.read(bias);
    v.write(sums, part_of<kN>(e, 0));
    v.write(sums + 2 * stride, v.read(row.x + 2 * hidden) + state / part_of<kN>(e, 1));
  }

  template <class At>
  [[gnu::always_inline]] static void state(At v, const CellRow& row, const float* sums, std::int64_t stride) {
    using V = Vecs<At::kVectors>;
    const V one{set1(1.0f)}, t = tanh_part(v.read(sums + 2 * stride)), keep = v.read(sums), both = t + one;
    v.write(row.next, fma(v.read(row.h), both, keep * t) / ((keep + one) * both));
  }
};

constexpr std::int64_t kCellBatch = 16;   // rows whose weights stay in L1 from one group of rows to the next
constexpr std::int64_t kCellSums = 2048;  // of them, in L1 too

// f(row, its sums) for each of some rows, from `column` on.
template <class F>
FP_INLINE void for_each_cell_row(const CellRow* rows, std::int64_t count, float* sums, std::int64_t size,
                                 std::int64_t column, F f) {
  for (std::int64_t i = 0; i < count; ++i, sums += size) {
    const CellRow& all = rows[i];
    f(CellRow{all.x + column, all.h + column, all.c + column, all.next + column}, sums);
  }
}

// The gates and the new states of some rows for `units` hidden units from `column` on, from the sums
// [row][gate][units], which are written over.
template <class Cell>
void update_rows(const CellRow* rows, std::int64_t count, float* sums, std::int64_t units, std::int64_t column,
                 std::int64_t hidden, const float* bias) {
  const float* own = bias ? bias + column : nullptr;
  const std::int64_t size = Cell::kGates * units;
  for_each_cell_row(rows, count, sums, size, column, [=](const CellRow& row, float* of) __attribute__((always_inline)) {
    for_each_vector<Cell::kTogether>(
        units, [=](auto v) __attribute__((always_inline)) { Cell::gates(v, row, of, units, hidden, own); });
  });
  for_each_cell_row(rows, count, sums, size, column, [=](const CellRow& row, float* of) __attribute__((always_inline)) {
    for_each_vector<Cell::kTogether>(units,
                                     [=](auto v) __attribute__((always_inline)) { Cell::state(v, row, of, units); });
  });
}

// A step of at most kCellBatch rows, for some of the hidden units, whose sums are of one chunk or, with kChunks, of any
// number. `backwards` goes through the hidden units the other way: the weights that the step before has read last are
// still in L1.
template <class Cell, bool kChunks>
void cell_step(const CellRow* rows, std::int64_t count, const float* weights, std::int64_t hidden, std::int64_t chunk,
               Range own, bool backwards, const float* bias) {
  constexpr int kGates = Cell::kGates;
  alignas(64) float sums[kCellSums];
  const std::int64_t groups = (count + kSumRows<kGates> - 1) / kSumRows<kGates>;  // of even size
  std::int64_t cuts[kCellBatch + 1];
  for (std::int64_t g = 0; g <= groups; ++g) cuts[g] = count * g / groups;
  const std::int64_t step = sum_vectors<kGates>(static_cast<int>(count)) * kLanes;
  const std::int64_t all = own.end - own.begin;
  const std::int64_t block = max_of(step, min_of(all, kCellSums / (kGates * count) & -step));
  for (std::int64_t at = 0; at < all; at += block) {
    const std::int64_t units = min_of(block, all - at);
    const std::int64_t column = own.begin + (backwards ? all - units - at : at);
    for (std::int64_t u = 0; u < units; u += step) {
      const std::int64_t unit = backwards ? units - step - u : u;
      const float* from = weights_at(weights, hidden, column + unit);
      for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t first = cuts[g];
        const std::int64_t many = cuts[g + 1] - first;
        const SumFn sum = kSumFns<kGates>.of[many];
        float* of = sums + first * kGates * units + unit;
        sum(rows + first, from, hidden, kChunks ? min_of(chunk, hidden) : hidden, of, units);
        if constexpr (kChunks) {
          for (std::int64_t k = chunk; k < hidden; k += chunk) {
            add_chunk<kGates>(sum, rows + first, many, from, hidden, k, min_of(chunk, hidden - k), of, units);
          }
        }
      }
    }
    update_rows<Cell>(rows, count, sums, units, column, hidden, bias);
  }
}

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
