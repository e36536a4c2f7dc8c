// SPDX-License-Identifier: Apache-2.0
// The rows of unary.def: each as a function of a contiguous row (for epilogues) and as a kernel.
#include "strided.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

#define UNARY(name, expression)                                                                              \
  struct name##_op {                                                                                         \
    FP_INLINE Vec apply(Vec x, [[maybe_unused]] Vec alpha, [[maybe_unused]] Vec beta) { return expression; } \
  };
#include "unary.def"
#undef UNARY

template <class Op>
FP_INLINE void unary_row(const float* in, float* out, std::int64_t n, float alpha, float beta) {
  const Vec a = set1(alpha);
  const Vec b = set1(beta);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, Op::apply(load(in + i), a, b));
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    store(out + i, Op::apply(load(in + i, rest), a, b), rest);
  }
}

void unary(const KernelArgs& args, Range range, RowFn row) {
  const UnaryParams& p = params_of<UnaryParams>(args);
  const float* in = static_cast<const float*>(args.in[0]);
  float* out = static_cast<float*>(args.out);
  const Strided<2> s = strided<2>(p.rank, p.shape, {p.in_stride, p.out_stride});
  const std::int64_t in_stride = s.row_stride(0);
  const std::int64_t out_stride = s.row_stride(1);
  for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t count) {
    const float* x = in + offset[0];
    float* y = out + offset[1];
    if (in_stride == 1 && out_stride == 1) return row(x, y, count, p.alpha, p.beta);
    float stage[kStage];
    for (std::int64_t i = 0; i < count; i += kStage) {
      const std::int64_t n = min_of(kStage, count - i);
      gather_row(x + i * in_stride, in_stride, stage, n);
      row(stage, stage, n, p.alpha, p.beta);
      scatter_row(stage, y + i * out_stride, out_stride, n);
    }
  });
}

}  // namespace

#define UNARY(name, expression)                                                                    \
  void name##_row(const float* in, float* out, std::int64_t n, float alpha, float beta) noexcept { \
    unary_row<name##_op>(in, out, n, alpha, beta);                                                 \
  }                                                                                                \
  void name##_f32(const KernelArgs& args, Range range) noexcept { unary(args, range, name##_row); }
#include "unary.def"
#undef UNARY

}  // namespace forwardpass::FORWARDPASS_ISA
