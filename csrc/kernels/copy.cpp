// SPDX-License-Identifier: Apache-2.0
// Strided copies, fills and padding. Elements are only moved, never computed with: NaN payloads and denormal numbers
// keep their bits.
#include "strided.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

FP_INLINE void copy_dense(const float* in, float* out, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, load(in + i));
  if (i < n) store(out + i, load(in + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

FP_INLINE void fill_dense(float* out, float value, std::int64_t n) {
  std::int64_t i = 0;
  const Vec v = set1(value);
  for (; i + kLanes <= n; i += kLanes) store(out + i, v);
  if (i < n) store(out + i, v, static_cast<int>(n - i));
}

void fill_row(float* out, std::int64_t stride, float value, std::int64_t n) {
  if (stride == 1) return fill_dense(out, value, n);
  for (std::int64_t i = 0; i < n; ++i) out[i * stride] = value;
}

void copy_row(const float* in, std::int64_t in_stride, float* out, std::int64_t out_stride, std::int64_t n) {
  if (in_stride == 1 && out_stride == 1) return copy_dense(in, out, n);
  if (in_stride == 0) return fill_row(out, out_stride, *in, n);
  if (out_stride == 1) return gather_row(in, in_stride, out, n);
  for (std::int64_t i = 0; i < n; ++i) out[i * out_stride] = in[i * in_stride];
}

// GNU vectors rather than Vec: a transpose needs shuffles, which are not among the primitives, and four lanes exist
// on every processor.
typedef float Quad __attribute__((vector_size(16)));
typedef Quad UnalignedQuad __attribute__((aligned(4), may_alias));

FP_INLINE Quad load_quad(const float* p) { return *reinterpret_cast<const UnalignedQuad*>(p); }
FP_INLINE void store_quad(float* p, Quad a) { *reinterpret_cast<UnalignedQuad*>(p) = a; }

// out[r][c] = in[c][r] for 4 x 4 elements, rows of both dense.
FP_INLINE void transpose_quads(const float* in, std::int64_t in_stride, float* out, std::int64_t out_stride) {
  const Quad a = load_quad(in), b = load_quad(in + in_stride);
  const Quad c = load_quad(in + 2 * in_stride), d = load_quad(in + 3 * in_stride);
  const Quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const Quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  store_quad(out, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
  store_quad(out + out_stride, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
  store_quad(out + 2 * out_stride, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
  store_quad(out + 3 * out_stride, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

// Rows that are transposed together: a cache line of every column of the input, and few enough lines of the output
// to stay in L1 even when its rows are a power of two apart.
constexpr std::int64_t kTransposeRows = 32;

// out[r][c] = in[c][r], r < rows, c < columns.
void transpose(const float* in, std::int64_t in_stride, float* out, std::int64_t out_stride, std::int64_t rows,
               std::int64_t columns) {
  const std::int64_t quad_rows = rows & ~std::int64_t{3};
  const std::int64_t quad_columns = columns & ~std::int64_t{3};
  for (std::int64_t block = 0; block < quad_rows; block += kTransposeRows) {
    const std::int64_t end = min_of(quad_rows, block + kTransposeRows);
    for (std::int64_t c = 0; c < quad_columns; c += 4) {
      for (std::int64_t r = block; r < end; r += 4) {
        transpose_quads(in + c * in_stride + r, in_stride, out + r * out_stride + c, out_stride);
      }
    }
    for (std::int64_t c = quad_columns; c < columns; ++c) {
      for (std::int64_t r = block; r < end; ++r) out[r * out_stride + c] = in[c * in_stride + r];
    }
  }
  for (std::int64_t r = quad_rows; r < rows; ++r) copy_row(in + r, in_stride, out + r * out_stride, 1, columns);
}

// Whether the last two dimensions are a transpose: dense along the columns of the output and the rows of the input.
bool is_transpose(const Strided<2>& s) {
  return s.rank >= 2 && s.stride[s.rank - 2][0] == 1 && s.row_stride(1) == 1 && s.row_stride(0) != 1;
}

// The last two dimensions as transposes of whole rows; the parts of rows at the ends of the range one by one.
void copy_transposed(const Strided<2>& s, const float* in, float* out, Range range) {
  const int row = s.rank - 1;
  const std::int64_t columns = s.shape[row];
  Place<2> place = Place<2>::at(s, range.begin);
  std::int64_t left = range.end - range.begin;
  while (left > 0) {
    const float* from = in + place.offset[0];
    float* to = out + place.offset[1];
    if (place.index[row] == 0 && left >= columns) {
      const std::int64_t rows = min_of(s.shape[row - 1] - place.index[row - 1], left / columns);
      transpose(from, s.row_stride(0), to, s.stride[row - 1][1], rows, columns);
      left -= rows * columns;
      if (left > 0) place.advance(s, row - 1, rows);
    } else {
      const std::int64_t n = min_of(left, columns - place.index[row]);
      copy_row(from, s.row_stride(0), to, 1, n);
      left -= n;
      if (left > 0) place.advance(s, row, n);
    }
  }
}

// Elements j of a row of a pad, begin <= j < end, that come from consecutive, equal or reversed input elements:
// element j is input element first + (j - begin) * step, or the value where first is -1.
struct Run {
  std::int64_t begin;
  std::int64_t end;
  std::int64_t first;
  std::int64_t step;
};

Run next_run(const std::int64_t* index, std::int64_t begin, std::int64_t n) {
  Run run = {begin, begin + 1, index[begin], 0};
  if (run.end == n) return run;
  if (run.first >= 0 && index[run.end] < 0) return run;
  run.step = index[run.end] - run.first;
  if (run.first < 0 && run.step != 0) return {begin, begin + 1, -1, 0};
  while (run.end < n && index[run.end] - index[run.end - 1] == run.step && (run.first < 0) == (index[run.end] < 0)) {
    ++run.end;
  }
  return run;
}

struct PadRow {
  const float* in;
  float* out;
  std::int64_t in_stride;
  std::int64_t out_stride;
  float value;
};

// Elements [begin, end) of a row whose first element is out[0].
void pad_run(const PadRow& row, const Run& run, std::int64_t begin, std::int64_t end) {
  begin = max_of(begin, run.begin);
  end = min_of(end, run.end);
  if (begin >= end) return;
  float* out = row.out + begin * row.out_stride;
  if (run.first < 0) return fill_row(out, row.out_stride, row.value, end - begin);
  const std::int64_t first = run.first + (begin - run.begin) * run.step;
  copy_row(row.in + first * row.in_stride, run.step * row.in_stride, out, row.out_stride, end - begin);
}

// The runs of the innermost dimension are the same for every row, so they are found once. There are at most five in
// ONNX's modes unless wrap or reflect go around more than once; those beyond kMaxRuns are found row by row.
constexpr int kMaxRuns = 8;

struct Runs {
  int count = 0;
  Run run[kMaxRuns];
};

void pad_row(const PadRow& row, const Runs& runs, const std::int64_t* index, std::int64_t n, std::int64_t begin,
             std::int64_t end) {
  for (int i = 0; i < runs.count; ++i) pad_run(row, runs.run[i], begin, end);
  for (std::int64_t j = max_of(begin, runs.run[runs.count - 1].end); j < end;) {
    const Run run = next_run(index, j, n);
    pad_run(row, run, begin, end);
    j = run.end;
  }
}

}  // namespace

void copy_f32(const KernelArgs& args, Range range) noexcept {
  const CopyParams& p = params_of<CopyParams>(args);
  const float* in = static_cast<const float*>(args.in[0]);
  float* out = static_cast<float*>(args.out);
  const Strided<2> s = strided<2>(p.rank, p.shape, {p.in_stride, p.out_stride});
  if (range.begin < range.end && is_transpose(s)) return copy_transposed(s, in, out, range);
  for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t count) {
    copy_row(in + offset[0], s.row_stride(0), out + offset[1], s.row_stride(1), count);
  });
}

void fill_f32(const KernelArgs& args, Range range) noexcept {
  const FillParams& p = params_of<FillParams>(args);
  float* out = static_cast<float*>(args.out);
  const Strided<1> s = strided<1>(p.rank, p.shape, {p.out_stride});
  for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t count) {
    fill_row(out + offset[0], s.row_stride(0), p.value, count);
  });
}

void pad_f32(const KernelArgs& args, Range range) noexcept {
  const PadParams& p = params_of<PadParams>(args);
  if (range.begin >= range.end) return;
  const float* in = static_cast<const float*>(args.in[0]);
  float* out = static_cast<float*>(args.out);
  const std::int64_t* index[kMaxRank] = {static_cast<const std::int64_t*>(p.index)};
  for (std::int64_t d = 1; d < p.rank; ++d) index[d] = index[d - 1] + p.shape[d - 1];
  const std::int64_t row = p.rank - 1;
  if (row < 0) {
    *out = *in;
    return;
  }
  const std::int64_t width = p.shape[row];
  Runs runs;
  for (std::int64_t j = 0; j < width && runs.count < kMaxRuns; j = runs.run[runs.count - 1].end) {
    runs.run[runs.count++] = next_run(index[row], j, width);
  }
  for (std::int64_t done = range.begin; done < range.end;) {
    const std::int64_t begin = done % width;
    const std::int64_t end = min_of(width, begin + range.end - done);
    std::int64_t rest = done / width, from = 0, to = 0;
    bool inside = true;
    for (std::int64_t d = row - 1; d >= 0; --d) {
      const std::int64_t i = rest % p.shape[d];
      rest /= p.shape[d];
      to += i * p.out_stride[d];
      inside = inside && index[d][i] >= 0;
      from += index[d][i] * p.in_stride[d];
    }
    const PadRow line = {inside ? in + from : nullptr, out + to, p.in_stride[row], p.out_stride[row], p.value};
    if (inside) {
      pad_row(line, runs, index[row], width, begin, end);
    } else {
      fill_row(line.out + begin * line.out_stride, line.out_stride, p.value, end - begin);
    }
    done += end - begin;
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
