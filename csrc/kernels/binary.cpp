// SPDX-License-Identifier: Apache-2.0
// Element-wise operators of two operands with broadcasting, and x * scale + shift.
#include "strided.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

#define BINARY(name, expression)                             \
  struct name##_op {                                         \
    FP_INLINE Vec apply(Vec a, Vec b) { return expression; } \
  };
BINARY(add, a + b)
BINARY(sub, a - b)
BINARY(mul, a* b)
BINARY(div, a / b)
BINARY(pow, pow(a, b))
// min() and max() give b where either is NaN, which loses a NaN of a.
BINARY(min, select(is_nan(a), a, min(a, b)))
BINARY(max, select(is_nan(a), a, max(a, b)))
BINARY(prelu, select(a < zero(), a* b, a))
#undef BINARY

struct ScaleShiftOp {
  FP_INLINE Vec apply(Vec x, Vec scale, Vec shift) { return fma(x, scale, shift); }
};

// Operands of a dense row: consecutive floats, or one float for all of them.
struct Dense {
  const float* p;
  FP_INLINE Vec at(const Dense& d, std::int64_t i) { return load(d.p + i); }
  FP_INLINE Vec at(const Dense& d, std::int64_t i, int n) { return load(d.p + i, n); }
};
struct Same {
  Vec v;
  FP_INLINE Vec at(const Same& s, std::int64_t) { return s.v; }
  FP_INLINE Vec at(const Same& s, std::int64_t, int) { return s.v; }
};

template <class Op, class... Operand>
FP_INLINE void dense_row(float* out, std::int64_t n, const Operand&... operand) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, Op::apply(Operand::at(operand, i)...));
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    store(out + i, Op::apply(Operand::at(operand, i, rest)...), rest);
  }
}

// Strides of a and b are 0 or 1.
template <class Op>
void binary_row(const float* a, std::int64_t a_stride, const float* b, std::int64_t b_stride, float* out,
                std::int64_t n) {
  if (a_stride == 0) {
    if (b_stride == 0) return dense_row<Op>(out, n, Same{set1(*a)}, Same{set1(*b)});
    return dense_row<Op>(out, n, Same{set1(*a)}, Dense{b});
  }
  if (b_stride == 0) return dense_row<Op>(out, n, Dense{a}, Same{set1(*b)});
  dense_row<Op>(out, n, Dense{a}, Dense{b});
}

// The strides of scale and shift are 0 or 1, that of x is 1.
void scale_shift_row(const float* x, const float* scale, std::int64_t scale_stride, const float* shift,
                     std::int64_t shift_stride, float* out, std::int64_t n) {
  if (scale_stride == 0) {
    if (shift_stride == 0) return dense_row<ScaleShiftOp>(out, n, Dense{x}, Same{set1(*scale)}, Same{set1(*shift)});
    return dense_row<ScaleShiftOp>(out, n, Dense{x}, Same{set1(*scale)}, Dense{shift});
  }
  if (shift_stride == 0) return dense_row<ScaleShiftOp>(out, n, Dense{x}, Dense{scale}, Same{set1(*shift)});
  dense_row<ScaleShiftOp>(out, n, Dense{x}, Dense{scale}, Dense{shift});
}

bool is_dense(std::int64_t stride) { return stride == 0 || stride == 1; }

// The n elements at p as a dense row: p itself, or a copy in `stage`.
const float* staged(const float* p, std::int64_t stride, float* stage, std::int64_t n) {
  if (is_dense(stride)) return p;
  gather_row(p, stride, stage, n);
  return stage;
}
std::int64_t staged_stride(std::int64_t stride) { return stride == 0 ? 0 : 1; }

template <class Op>
FP_INLINE void binary(const KernelArgs& args, Range range) {
  const BinaryParams& p = params_of<BinaryParams>(args);
  const float* a = static_cast<const float*>(args.in[0]);
  const float* b = static_cast<const float*>(args.in[1]);
  float* out = static_cast<float*>(args.out);
  const Strided<3> s = strided<3>(p.rank, p.shape, {p.a_stride, p.b_stride, p.out_stride});
  const std::int64_t sa = s.row_stride(0), sb = s.row_stride(1), so = s.row_stride(2);
  const bool dense = is_dense(sa) && is_dense(sb) && so == 1;
  for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t count) {
    const float* x = a + offset[0];
    const float* y = b + offset[1];
    float* z = out + offset[2];
    if (dense) return binary_row<Op>(x, sa, y, sb, z, count);
    float stage[3][kStage];
    for (std::int64_t i = 0; i < count; i += kStage) {
      const std::int64_t n = min_of(kStage, count - i);
      binary_row<Op>(staged(x + i * sa, sa, stage[0], n), staged_stride(sa), staged(y + i * sb, sb, stage[1], n),
                     staged_stride(sb), stage[2], n);
      scatter_row(stage[2], z + i * so, so, n);
    }
  });
}

}  // namespace

#define BINARY(name) \
  void name##_f32(const KernelArgs& args, Range range) noexcept { binary<name##_op>(args, range); }
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)
BINARY(pow)
BINARY(min)
BINARY(max)
BINARY(prelu)
#undef BINARY

// Elements that stay in L1 until they are activated.
static constexpr std::int64_t kActivated = 2048;

void scale_shift_f32(const KernelArgs& args, Range range) noexcept {
  const ScaleShiftParams& p = params_of<ScaleShiftParams>(args);
  const float* in = static_cast<const float*>(args.in[0]);
  const float* scale = static_cast<const float*>(args.in[1]);
  const float* shift = static_cast<const float*>(args.in[2]);
  float* out = static_cast<float*>(args.out);
  const Strided<4> s = strided<4>(p.rank, p.shape, {p.in_stride, p.scale_stride, p.shift_stride, p.out_stride});
  const std::int64_t sx = s.row_stride(0), sm = s.row_stride(1), sc = s.row_stride(2), so = s.row_stride(3);
  const bool dense = sx == 1 && is_dense(sm) && is_dense(sc) && so == 1;
  const RowFn activate = p.activation == kNone ? nullptr : kActivationRows[p.activation];
  for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t count) {
    const float *x = in + offset[0], *m = scale + offset[1], *c = shift + offset[2];
    float* y = out + offset[3];
    float stage[4][kStage];
    for (std::int64_t i = 0, n; i < count; i += n) {
      n = min_of(dense ? kActivated : kStage, count - i);
      float* made = dense ? y + i : stage[3];
      if (dense) {
        scale_shift_row(x + i, m + i * sm, sm, c + i * sc, sc, made, n);
      } else {
        if (sx != 1) gather_row(x + i * sx, sx, stage[0], n);
        scale_shift_row(sx == 1 ? x + i : stage[0], staged(m + i * sm, sm, stage[1], n), staged_stride(sm),
                        staged(c + i * sc, sc, stage[2], n), staged_stride(sc), made, n);
      }
      if (activate) activate(made, made, n, p.alpha, p.beta);
      if (!dense) scatter_row(made, y + i * so, so, n);
    }
  });
}

}  // namespace forwardpass::FORWARDPASS_ISA
