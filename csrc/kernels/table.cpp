// SPDX-License-Identifier: Apache-2.0
// This ISA's KernelTable. A kernel that kernels.def names and no source defines is a link error.
#include "kernels.hpp"

#define FP_STRING(x) #x
#define FP_NAME(x) FP_STRING(x)

namespace forwardpass::FORWARDPASS_ISA {

extern const KernelTable& table() noexcept;

const KernelTable& table() noexcept {
  static constinit KernelTable t = {
      FP_NAME(FORWARDPASS_ISA),
      kPanel,
      kTileM,
      {
#define KERNEL(name, Params) &name,
#include "kernels.def"
#undef KERNEL
      },
      {
#define UNARY(name, expression) &name##_row,
#include "unary.def"
#undef UNARY
      },
  };
  return t;
}

}  // namespace forwardpass::FORWARDPASS_ISA
