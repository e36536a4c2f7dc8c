// SPDX-License-Identifier: Apache-2.0
// rnn_f32, gru_f32, lstm_f32: all time steps of a recurrent layer, whose products with the input are known. At each
// step brgemm multiplies the states of all rows with the recurrent weights, then the gates are calculated row by row.
#include "recurrent_cell.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

FP_INLINE void fill_row(float* row, std::int64_t n, const float* from) {
  for_each_vector<1>(
      n, [=](auto v) __attribute__((always_inline)) { v.write(row, from ? v.read(from) : Vecs<1>(zero())); });
}

FP_INLINE void add_row(float* row, const float* x, std::int64_t n) {
  for_each_vector<1>(n, [=](auto v) __attribute__((always_inline)) { v.write(row, v.read(x) + v.read(row)); });
}

FP_INLINE void add_product(float* row, const float* a, const float* b, std::int64_t n) {
  for_each_vector<1>(
      n, [=](auto v) __attribute__((always_inline)) { v.write(row, fma(v.read(a), v.read(b), v.read(row))); });
}

// What the gates of one row at one time step are made of.
struct Row {
  const RecurrentParams& p;
  const float* x;  // products with the input
  float* gates;    // products with the state
  float* h;
  float* c;
  const float* peepholes;

  void bound(float* row, std::int64_t n) const {
    if (p.clip == __builtin_inff()) return;
    const Vecs<1> low(set1(-p.clip)), high(set1(p.clip));
    for_each_vector<1>(n,
                       [=](auto v) __attribute__((always_inline)) { v.write(row, min(high, max(low, v.read(row)))); });
  }
  void f(float* row, std::int64_t n) const {
    bound(row, n);
    kActivationRows[p.activation_f](row, row, n, p.alpha_f, p.beta_f);
  }
  void g(float* row, std::int64_t n) const {
    bound(row, n);
    kActivationRows[p.activation_g](row, row, n, p.alpha_g, p.beta_g);
  }
};

// Of the candidate's product with the state, in a GRU that is linear before the reset.
const float* candidate_bias(const RecurrentParams& p, std::int64_t direction) {
  return p.bias ? static_cast<const float*>(p.bias) + direction * 3 * p.hidden + 2 * p.hidden : nullptr;
}

// Rows of one direction.
class Block {
 public:
  Block(const KernelArgs& args, std::int64_t direction, Range rows)
      : p_(params_of<RecurrentParams>(args)), direction_(direction), rows_(rows.end - rows.begin) {
    const std::int64_t unit = direction * p_.batch + rows.begin;
    x_ = static_cast<const float*>(args.in[0]) + direction * p_.x_direction + rows.begin * p_.x_row;
    if (args.in[1]) lengths_ = static_cast<const std::int32_t*>(args.in[1]) + rows.begin;
    reverse_ = p_.reverse >> direction & 1;
    h_ = static_cast<float*>(args.out) + unit * p_.hidden;
    c_ = h_ + p_.c;
    gates_ = static_cast<float*>(args.out) + p_.gates + unit * p_.n_gates * p_.hidden;
    if (p_.y) y_ = h_ + p_.y;
    if (p_.peepholes) peepholes_ = static_cast<const float*>(p_.peepholes) + 3 * direction * p_.hidden;
    start(h_, args.in[2], rows.begin);
    if (p_.c) start(c_, args.in[3], rows.begin);
    product_.batch = product_.oh = product_.groups = 1;
    product_.ow = rows_;
    product_.k = p_.hidden;
    product_.n_chunks = p_.n_chunks;
    product_.chunks = p_.chunks;
    product_.entries = p_.entries;
    product_.activation = kNone;
    product_.tile_m = p_.tile_m;
    for (std::int64_t i = 0; i < rows_; ++i) longest_ = max_of(longest_, length(i));
  }

  std::int64_t gate_columns() const { return p_.n_gates * p_.hidden; }
  std::int64_t direction() const { return direction_; }
  std::int64_t longest() const { return longest_; }

  // n columns of `out` = rows of `a` x packed weights (+ bias). Columns of gates are given by the row's first.
  void multiply(const void* weights, std::int64_t n, const float* a, std::int64_t lda, float* out,
                const void* bias = nullptr) {
    const std::int64_t packed = (n + kPanel - 1) / kPanel * p_.hidden * kPanel;
    product_.n = n;
    product_.a_col = lda;
    product_.c_col = gate_columns();
    product_.b = static_cast<const float*>(weights) + direction_ * packed;
    product_.bias = bias ? static_cast<const float*>(bias) + direction_ * n : nullptr;
    const KernelArgs args = {{a, nullptr, nullptr, nullptr}, out, &product_, nullptr, 0};
    brgemm_f32(args, {0, (rows_ + p_.tile_m - 1) / p_.tile_m});
  }
  // All gates from the states.
  void multiply_states(std::int64_t n) { multiply(p_.b, n, h_, p_.hidden, gates_, p_.bias); }
  float* gates() const { return gates_; }
  // Of the states, packed.
  const float* weights() const {
    return static_cast<const float*>(p_.b) + direction_ * ((gate_columns() + kPanel - 1) / kPanel * p_.hidden * kPanel);
  }

  // f(row) for the rows that have a step t.
  template <class F>
  void for_each_row(std::int64_t t, F f) const {
    for (std::int64_t i = 0; i < rows_; ++i) {
      if (t >= length(i)) continue;
      const std::int64_t time = reverse_ ? length(i) - 1 - t : t;
      const std::int64_t state = i * p_.hidden;
      f(Row{p_, x_ + time * p_.x_time + i * p_.x_row, gates_ + i * gate_columns(), h_ + state, c_ + state, peepholes_});
    }
  }

  // Y of step t: the states, zeros behind the end of a row.
  void write_outputs(std::int64_t t) const {
    if (!y_) return;
    for (std::int64_t i = 0; i < rows_; ++i) {
      const bool live = t < length(i);
      const std::int64_t time = reverse_ && live ? length(i) - 1 - t : t;
      fill_row(y_ + time * p_.y_time + i * p_.hidden, p_.hidden, live ? h_ + i * p_.hidden : nullptr);
    }
  }

 private:
  void start(float* state, const void* initial, std::int64_t row) const {
    const float* from = static_cast<const float*>(initial);
    if (from) from += direction_ * p_.state_direction + row * p_.state_row;
    for (std::int64_t i = 0; i < rows_; ++i)
      fill_row(state + i * p_.hidden, p_.hidden, from ? from + i * p_.state_row : nullptr);
  }

  std::int64_t length(std::int64_t i) const { return lengths_ ? max_of(0, min_of(lengths_[i], p_.steps)) : p_.steps; }

  const RecurrentParams& p_;
  std::int64_t direction_;
  std::int64_t rows_;
  std::int64_t longest_ = 0;
  bool reverse_ = false;
  const float* x_;
  const std::int32_t* lengths_ = nullptr;
  float* h_;
  float* c_;
  float* gates_;
  float* y_ = nullptr;
  const float* peepholes_ = nullptr;
  BrgemmParams product_{};
};

void rnn_step(Block& block, const RecurrentParams& p, std::int64_t t) {
  const std::int64_t n = p.hidden;
  block.multiply_states(n);
  block.for_each_row(t, [n](const Row& r) {
    add_row(r.gates, r.x, n);
    r.f(r.gates, n);
    fill_row(r.h, n, r.gates);
  });
}

// The new state from z and the candidate: (1 - z) candidate + z h.
void mix_states(const Row& r, std::int64_t n) {
  const float* z = r.gates;
  const float* candidate = r.gates + 2 * n;
  float* h = r.h;
  for_each_vector<1>(n, [=](auto v) __attribute__((always_inline)) {
    const Vecs<1> keep = v.read(z);
    v.write(h, fma(keep, v.read(h), (Vecs<1>(set1(1.0f)) - keep) * v.read(candidate)));
  });
}

// Gates z, r, candidate; the candidate takes r times the product of the state.
void gru_linear_step(Block& block, const RecurrentParams& p, std::int64_t t) {
  const std::int64_t n = p.hidden;
  block.multiply_states(3 * n);
  block.for_each_row(t, [n](const Row& r) {
    float* candidate = r.gates + 2 * n;
    add_row(r.gates, r.x, 2 * n);
    r.f(r.gates, 2 * n);
    const float* reset = r.gates + n;
    const float* x = r.x + 2 * n;
    for_each_vector<1>(n, [=](auto v) __attribute__((always_inline)) {
      v.write(candidate, fma(v.read(reset), v.read(candidate), v.read(x)));
    });
    r.g(candidate, n);
    mix_states(r, n);
  });
}

// Gates z, r, candidate; the candidate takes the product of r times the state, which lies in the place of r.
void gru_step(Block& block, const RecurrentParams& p, std::int64_t t) {
  const std::int64_t n = p.hidden;
  block.multiply_states(2 * n);
  block.for_each_row(t, [n](const Row& r) {
    add_row(r.gates, r.x, 2 * n);
    r.f(r.gates, 2 * n);
    float* reset = r.gates + n;
    const float* h = r.h;
    for_each_vector<1>(n, [=](auto v) __attribute__((always_inline)) { v.write(reset, v.read(reset) * v.read(h)); });
  });
  block.multiply(p.b_candidate, n, block.gates() + n, block.gate_columns(), block.gates() + 2 * n);
  block.for_each_row(t, [n](const Row& r) {
    float* candidate = r.gates + 2 * n;
    add_row(candidate, r.x + 2 * n, n);
    r.g(candidate, n);
    mix_states(r, n);
  });
}

// Gates i, o, f, candidate.
void lstm_row(const Row& r, std::int64_t n) {
  float* input = r.gates;
  float* output = r.gates + n;
  float* forget = r.gates + 2 * n;
  float* candidate = r.gates + 3 * n;
  float* c = r.c;
  add_row(r.gates, r.x, 4 * n);
  if (r.peepholes) {
    add_product(input, r.peepholes, c, n);
    add_product(forget, r.peepholes + 2 * n, c, n);
    r.f(input, n);
    r.f(forget, n);
  } else {
    r.f(input, 3 * n);
  }
  r.g(candidate, n);
  const bool coupled = r.p.input_forget != 0;
  for_each_vector<1>(n, [=](auto v) __attribute__((always_inline)) {
    const Vecs<1> in = v.read(input);
    const Vecs<1> keep = coupled ? Vecs<1>(set1(1.0f)) - in : v.read(forget);
    const Vecs<1> next = fma(keep, v.read(c), in * v.read(candidate));
    v.write(c, next);
  });
  if (r.peepholes) {
    add_product(output, r.peepholes + n, c, n);
    r.f(output, n);
  }
  float* h = r.h;
  kActivationRows[r.p.activation_h](c, h, n, r.p.alpha_h, r.p.beta_h);
  for_each_vector<1>(n, [=](auto v) __attribute__((always_inline)) { v.write(h, v.read(output) * v.read(h)); });
}

void lstm_step(Block& block, const RecurrentParams& p, std::int64_t t) {
  const std::int64_t n = p.hidden;
  block.multiply_states(4 * n);
  block.for_each_row(t, [n](const Row& r) { lstm_row(r, n); });
}

// A step with the gates of nearly all networks. Rows that have ended are left as they are.
template <class Cell>
void usual_step(Block& block, const RecurrentParams& p, std::int64_t t) {
  const std::int64_t n = p.hidden;
  const float* bias = candidate_bias(p, block.direction());
  if (p.n_chunks != 1 || n % (2 * kPanel) != 0) {
    block.multiply_states(Cell::kGates * n);
    block.for_each_row(t, [=](const Row& r) {
      const CellRow row = {r.x, r.h, r.c, r.h};
      update_rows<Cell>(&row, 1, r.gates, n, 0, n, nullptr);
    });
    return;
  }
  CellRow rows[kCellBatch];
  std::int64_t count = 0;
  const auto flush = [&] {
    if (count > 0) cell_step<Cell, false>(rows, count, block.weights(), n, n, {0, n}, t & 1, bias);
    for (std::int64_t i = 0; i < count; ++i) fill_row(rows[i].h, n, rows[i].next);
    count = 0;
  };
  block.for_each_row(t, [&](const Row& r) {
    rows[count++] = {r.x, r.h, r.c, r.gates};
    if (count == kCellBatch) flush();
  });
  flush();
}

constexpr std::int64_t kUsualRate = 16;  // products of a state and a weight per nanosecond and core

// All steps of the only row, whose hidden units are shared among threads. These wait for each other's states before
// each step, which are in two places by turns: those of the last step where they belong.
template <class Cell>
void shared_row(const KernelArgs& args, Range range) {
  const RecurrentParams& p = params_of<RecurrentParams>(args);
  const std::int64_t n = p.hidden;
  const Range all = {0, n};
  Range own = {range.begin * p.unit, min_of(range.end * p.unit, n)};
  Turns turns = {range.part, Cell::kGates * n * (n - own.end + own.begin) / kUsualRate};
  const auto put = [&own](float* to, const float* from) {
    fill_row(to + own.begin, own.end - own.begin, from ? from + own.begin : nullptr);
  };
  float* last = static_cast<float*>(args.out);
  float* other = last + p.gates;
  float* c = last + p.c;
  float* h = p.steps % 2 == 0 ? last : other;
  const std::int64_t chunk = static_cast<const std::int64_t*>(p.entries)[1];
  put(h, static_cast<const float*>(args.in[2]));
  if (p.c) put(c, static_cast<const float*>(args.in[3]));
  for (std::int64_t t = 0; t < p.steps; ++t) {
    if (args.convoy && !next_turn(*args.convoy, turns, own, all)) return;
    const std::int64_t time = p.reverse ? p.steps - 1 - t : t;
    float* next = h == last ? other : last;
    const CellRow row = {static_cast<const float*>(args.in[0]) + time * p.x_time, h, c, next};
    cell_step<Cell, true>(&row, 1, static_cast<const float*>(p.b), n, chunk, own, t & 1, candidate_bias(p, 0));
    if (p.y) put(last + p.y + time * p.y_time, next);
    h = next;
  }
}

template <class Step>
void run(const KernelArgs& args, Range range, Step step) {
  const RecurrentParams& p = params_of<RecurrentParams>(args);
  for (std::int64_t unit = range.begin; unit < range.end;) {
    const std::int64_t direction = unit / p.batch;
    const std::int64_t first = direction * p.batch;
    const std::int64_t end = min_of(range.end, first + p.batch);
    Block block(args, direction, {unit - first, end - first});
    for (std::int64_t t = 0; t < p.steps; ++t) {
      if (t < block.longest()) step(block, p, t);
      block.write_outputs(t);
    }
    unit = end;
  }
}

}  // namespace

void rnn_f32(const KernelArgs& args, Range range) noexcept { run(args, range, rnn_step); }

void gru_f32(const KernelArgs& args, Range range) noexcept {
  const RecurrentParams& p = params_of<RecurrentParams>(args);
  const bool usual = p.activation_f == k_sigmoid && p.activation_g == k_tanh && p.clip == __builtin_inff();
  if (p.unit) return shared_row<Gru>(args, range);
  if (p.b_candidate) return run(args, range, gru_step);
  run(args, range, usual ? usual_step<Gru> : gru_linear_step);
}

void lstm_f32(const KernelArgs& args, Range range) noexcept {
  const RecurrentParams& p = params_of<RecurrentParams>(args);
  const bool usual = p.activation_f == k_sigmoid && p.activation_g == k_tanh && p.activation_h == k_tanh &&
                     !p.peepholes && !p.input_forget && p.clip == __builtin_inff();
  if (p.unit) return shared_row<Lstm>(args, range);
  run(args, range, usual ? usual_step<Lstm> : lstm_step);
}

}  // namespace forwardpass::FORWARDPASS_ISA
