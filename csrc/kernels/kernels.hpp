// SPDX-License-Identifier: Apache-2.0
// Declares every kernel of kernels.def in the namespace of the ISA that is being compiled, and has what all kernel
// sources need. Kernel sources include no STL: an inline function of the STL compiled with ISA flags could be the
// one the linker keeps for everybody.
#pragma once
#include "../core/kernel.hpp"
#include "simd.hpp"
#include "tuning.hpp"

namespace forwardpass::FORWARDPASS_ISA {

#define KERNEL(name, Params) void name(const KernelArgs& args, Range range) noexcept;
#include "kernels.def"
#undef KERNEL

#define UNARY(name, expression) \
  void name##_row(const float* in, float* out, std::int64_t n, float alpha, float beta) noexcept;
#include "unary.def"
#undef UNARY

std::uint32_t crc32(const void* data, std::int64_t size, std::uint32_t crc) noexcept;

// The row functions by Activation.
static constexpr RowFn kActivationRows[] = {
#define UNARY(name, expression) &name##_row,
#include "unary.def"
#undef UNARY
};

// Kernels with an epilogue apply Relu and Clip in registers; any other activation runs on the finished row, in L1.
FP_INLINE bool runs_on_rows(std::int64_t activation) {
  return activation != kNone && activation != k_relu && activation != k_clip;
}

template <class Params>
FP_INLINE const Params& params_of(const KernelArgs& args) {
  return *static_cast<const Params*>(args.params);
}

FP_INLINE std::int64_t min_of(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
FP_INLINE std::int64_t max_of(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

}  // namespace forwardpass::FORWARDPASS_ISA
