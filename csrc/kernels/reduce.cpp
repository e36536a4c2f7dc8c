// SPDX-License-Identifier: Apache-2.0
// Reductions of floats. Four ways through memory, one order of operations
// (lanes.hpp).
#include "lanes.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

constexpr int kStage = 512;    // elements gathered at a time when the reduced elements are not dense
constexpr int kColumns = 128;  // outputs whose 16 lanes are kept in L1 at a time
constexpr int kFew = 8;        // elements of an output that are no work for a vector
constexpr int kRows = 4;       // dense outputs computed side by side to hide the latency of an addition
static_assert(kStage % kVirtualLanes == 0 && kColumns % kVirtualLanes == 0);

// Dimensions without those of size 1 and with neighbours merged where the strides allow it.
struct Dims {
  int rank;
  std::int64_t size[kMaxRank];
  std::int64_t in[kMaxRank];
  std::int64_t out[kMaxRank];

  std::int64_t count() const {
    std::int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= size[d];
    return n;
  }
  std::int64_t inner_size() const { return rank ? size[rank - 1] : 1; }
  std::int64_t inner_in() const { return rank ? in[rank - 1] : 1; }
  std::int64_t inner_out() const { return rank ? out[rank - 1] : 1; }
};

Dims coalesce(std::int64_t rank, const std::int64_t* size, const std::int64_t* in, const std::int64_t* out) {
  Dims dims;
  dims.rank = 0;
  for (std::int64_t d = 0; d < rank; ++d) {
    if (size[d] == 1) continue;
    const int last = dims.rank - 1;
    if (last >= 0 && dims.in[last] == size[d] * in[d] && dims.out[last] == size[d] * out[d]) {
      dims.size[last] *= size[d];
      dims.in[last] = in[d];
      dims.out[last] = out[d];
    } else {
      dims.size[dims.rank] = size[d];
      dims.in[dims.rank] = in[d];
      dims.out[dims.rank] = out[d];
      ++dims.rank;
    }
  }
  return dims;
}

// A place in Dims, innermost dimension last. `in` and `out` are the offsets of the place.
struct Place {
  std::int64_t index[kMaxRank];
  std::int64_t in = 0;
  std::int64_t out = 0;

  Place(const Dims& dims, std::int64_t element) {
    for (int d = dims.rank - 1; d >= 0; --d) {
      index[d] = element % dims.size[d];
      element /= dims.size[d];
      in += index[d] * dims.in[d];
      out += index[d] * dims.out[d];
    }
  }

  // n steps along the innermost dimension, at most to its end, and then on to the next row.
  void advance(const Dims& dims, std::int64_t n) {
    int d = dims.rank - 1;
    if (d < 0) return;
    index[d] += n;
    in += n * dims.in[d];
    out += n * dims.out[d];
    for (; d > 0 && index[d] == dims.size[d]; --d) {
      in += dims.in[d - 1] - dims.size[d] * dims.in[d];
      out += dims.out[d - 1] - dims.size[d] * dims.out[d];
      index[d] = 0;
      ++index[d - 1];
    }
  }
};

template <class Fold, int kCount>
FP_INLINE void fold_dense(Lanes (&lanes)[kCount], const float* const (&p)[kCount], std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kVirtualLanes <= n; i += kVirtualLanes) {
    for (int r = 0; r < kCount; ++r) fold_lanes<Fold>(lanes[r], p[r] + i);
  }
  if (i == n) return;
  for (int r = 0; r < kCount; ++r) fold_lanes<Fold>(lanes[r], p[r] + i, static_cast<int>(n - i));
}

// The reduced elements of kCount outputs are dense.
template <class Fold, int kCount>
void reduce_dense(const float* const (&p)[kCount], std::int64_t n, float (&result)[kCount]) {
  Lanes lanes[kCount];
  for (Lanes& l : lanes) l = lanes_of<Fold>();
  fold_dense<Fold, kCount>(lanes, p, n);
  for (int r = 0; r < kCount; ++r) result[r] = combine_lanes<Fold>(lanes[r]);
}

// Any strides: the elements are brought together in L1 first.
template <class Fold>
float reduce_staged(const float* p, const Dims& reduced) {
  alignas(64) float stage[kStage];
  const float* const staged[1] = {stage};
  Lanes lanes[1] = {lanes_of<Fold>()};
  const std::int64_t step = reduced.inner_in();
  Place place(reduced, 0);
  int filled = 0;
  for (std::int64_t left = reduced.count(); left > 0;) {
    const std::int64_t row = reduced.inner_size() - place.index[reduced.rank - 1];
    const std::int64_t n = min_of(row, kStage - filled);
    for (std::int64_t i = 0; i < n; ++i) stage[filled + i] = p[place.in + i * step];
    place.advance(reduced, n);
    filled += static_cast<int>(n);
    left -= n;
    if (filled == kStage || left == 0) {
      fold_dense<Fold, 1>(lanes, staged, filled);
      filled = 0;
    }
  }
  return combine_lanes<Fold>(lanes[0]);
}

// n <= kColumns outputs side by side in memory, with inputs side by side. The lanes live in L1 and not in
// registers so that the input is read in the order of its addresses.
template <class Fold>
void reduce_columns(const float* p, int n, const Dims& reduced, float* out, float divisor) {
  alignas(64) float lane[kVirtualLanes][kColumns];
  const std::int64_t count = reduced.count();
  const int full = n - n % kLanes;
  Place place(reduced, 0);
  for (std::int64_t i = 0; i < count; ++i) {
    const float* x = p + place.in;
    float* acc = lane[i % kVirtualLanes];
    if (i < kVirtualLanes) {
      for (int c = 0; c < full; c += kLanes) store(acc + c, Fold::term(load(x + c)));
      if (full < n) store(acc + full, Fold::term(load(x + full, n - full)));
    } else {
      for (int c = 0; c < full; c += kLanes) store(acc + c, Fold::apply(load(acc + c), Fold::term(load(x + c))));
      if (full < n) store(acc + full, Fold::apply(load(acc + full), Fold::term(load(x + full, n - full))));
    }
    place.advance(reduced, 1);
  }
  for (int half = kVirtualLanes / 2; half > 0; half /= 2) {
    for (int j = 0; j < half && j + half < count; ++j) {
      for (int c = 0; c < n; c += kLanes) store(lane[j] + c, Fold::apply(load(lane[j] + c), load(lane[j + half] + c)));
    }
  }
  const Vec d = set1(divisor);
  for (int c = 0; c < full; c += kLanes) store(out + c, load(lane[0] + c) / d);
  if (full < n) store(out + full, load(lane[0] + full) / d, n - full);
}

template <class Fold>
void reduce_by_columns(const float* in, float* out, const Dims& kept, const Dims& reduced, Range range, float divisor) {
  Place place(kept, range.begin);
  for (std::int64_t i = range.begin; i < range.end;) {
    const std::int64_t row = kept.inner_size() - place.index[kept.rank - 1];
    const std::int64_t n = min_of(min_of(row, kColumns), range.end - i);
    reduce_columns<Fold>(in + place.in, static_cast<int>(n), reduced, out + place.out, divisor);
    place.advance(kept, n);
    i += n;
  }
}

// Sums of at most kFew dense elements: outputs side by side, as in reduce_columns.
void sum_side_by_side(const float* in, float* out, const Dims& kept, std::int64_t count, Range range, float divisor) {
  Place place(kept, range.begin);
  const std::int64_t step = kept.inner_in();
  for (std::int64_t i = range.begin; i < range.end;) {
    const std::int64_t row = kept.inner_size() - place.index[kept.rank - 1];
    const std::int64_t n = min_of(row, range.end - i);
    const float* const p = in + place.in;
    std::int64_t c = 0;
    for (; c + kLanes <= n; c += kLanes) {
      Vec lane[kFew];
      for (std::int64_t j = 0; j < count; ++j) lane[j] = gather(p + c * step + j, step);
      for (int half = kFew / 2; half > 0; half /= 2) {
        for (int j = 0; j < half && j + half < count; ++j) lane[j] = lane[j] + lane[j + half];
      }
      store(out + place.out + c, lane[0] / set1(divisor));
    }
    for (; c < n; ++c) {
      float lane[kFew];
      for (std::int64_t j = 0; j < count; ++j) lane[j] = p[c * step + j];
      for (int half = kFew / 2; half > 0; half /= 2) {
        for (int j = 0; j < half && j + half < count; ++j) lane[j] = lane[j] + lane[j + half];
      }
      out[place.out + c] = lane[0] / divisor;
    }
    place.advance(kept, n);
    i += n;
  }
}

template <class Fold>
void reduce_by_rows(const float* in, float* out, const Dims& kept, const Dims& reduced, Range range, float divisor) {
  Place place(kept, range.begin);
  const bool dense = reduced.rank == 0 || (reduced.rank == 1 && reduced.in[0] == 1);
  const std::int64_t count = reduced.count();
  std::int64_t i = range.begin;
  for (; dense && i + kRows <= range.end; i += kRows) {
    const float* p[kRows];
    float* q[kRows];
    for (int r = 0; r < kRows; ++r) {
      p[r] = in + place.in;
      q[r] = out + place.out;
      place.advance(kept, 1);
    }
    float result[kRows];
    reduce_dense<Fold, kRows>(p, count, result);
    for (int r = 0; r < kRows; ++r) *q[r] = result[r] / divisor;
  }
  for (; i < range.end; ++i) {
    float result[1];
    if (dense) {
      const float* const p[1] = {in + place.in};
      reduce_dense<Fold, 1>(p, count, result);
    } else {
      result[0] = reduce_staged<Fold>(in + place.in, reduced);
    }
    out[place.out] = result[0] / divisor;
    place.advance(kept, 1);
  }
}

// The result is divided by the number of elements for a mean, else by 1, which changes no bit. `empty` is the
// value of a reduction of nothing.
template <class Fold>
void reduce(const KernelArgs& args, Range range, bool mean, float empty) {
  const ReduceParams& q = params_of<ReduceParams>(args);
  const float* in = static_cast<const float*>(args.in[0]);
  float* out = static_cast<float*>(args.out);
  const Dims kept = coalesce(q.kept_rank, q.kept, q.kept_stride, q.out_stride);
  const Dims reduced = coalesce(q.reduced_rank, q.reduced, q.reduced_stride, q.reduced_stride);
  const std::int64_t count = reduced.count();
  if (range.begin >= range.end) return;
  if (count == 0) {
    Place place(kept, range.begin);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      out[place.out] = empty;
      place.advance(kept, 1);
    }
    return;
  }
  const float divisor = mean ? static_cast<float>(count) : 1.0f;
  const bool columns = kept.rank > 0 && kept.inner_in() == 1 && kept.inner_out() == 1;
  if (columns && (reduced.rank == 0 || reduced.inner_in() != 1)) {
    reduce_by_columns<Fold>(in, out, kept, reduced, range, divisor);
  } else {
    reduce_by_rows<Fold>(in, out, kept, reduced, range, divisor);
  }
}

// Sums of few elements, such as the parts of complex numbers; false where they are more.
[[gnu::noinline]] bool sum_few(const KernelArgs& args, Range range, bool mean) {
  const ReduceParams& q = params_of<ReduceParams>(args);
  const Dims kept = coalesce(q.kept_rank, q.kept, q.kept_stride, q.out_stride);
  const Dims reduced = coalesce(q.reduced_rank, q.reduced, q.reduced_stride, q.reduced_stride);
  const std::int64_t count = reduced.count();
  if (count == 0 || count > kFew || reduced.rank != 1 || reduced.in[0] != 1) return false;
  if (range.begin >= range.end || kept.rank == 0 || kept.inner_out() != 1) return false;
  sum_side_by_side(static_cast<const float*>(args.in[0]), static_cast<float*>(args.out), kept, count, range,
                   mean ? static_cast<float>(count) : 1.0f);
  return true;
}

}  // namespace

void reduce_sum_f32(const KernelArgs& args, Range range) noexcept {
  if (!sum_few(args, range, false)) reduce<SumFold>(args, range, false, 0.0f);
}

void reduce_prod_f32(const KernelArgs& args, Range range) noexcept { reduce<ProductFold>(args, range, false, 1.0f); }

void reduce_l1_f32(const KernelArgs& args, Range range) noexcept { reduce<MagnitudeFold>(args, range, false, 0.0f); }

void reduce_sum_square_f32(const KernelArgs& args, Range range) noexcept {
  reduce<SquareFold>(args, range, false, 0.0f);
}

void reduce_mean_f32(const KernelArgs& args, Range range) noexcept {
  if (!sum_few(args, range, true)) reduce<SumFold>(args, range, true, __builtin_nanf(""));
}

void reduce_max_f32(const KernelArgs& args, Range range) noexcept {
  reduce<MaxFold>(args, range, false, MaxFold::kIdentity);
}

void reduce_min_f32(const KernelArgs& args, Range range) noexcept {
  reduce<MinFold>(args, range, false, MinFold::kIdentity);
}

}  // namespace forwardpass::FORWARDPASS_ISA
