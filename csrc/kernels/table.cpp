// SPDX-License-Identifier: Apache-2.0
// This ISA's KernelTable. A kernel that kernels.def names and no source defines is a link error.
#include "kernels.hpp"

#define FP_STRING(x) #x
#define FP_NAME(x) FP_STRING(x)

namespace forwardpass::FORWARDPASS_ISA {

extern const KernelTable& table() noexcept;

namespace {

// The most rows of a tile of so many panels that leave registers for a row of B and an element of A.
constexpr std::int64_t rows_for(int panels) {
  const int wide = panels <= kWidestTile ? panels : kTilePanels;
  const int rows = (kRegisters - 1) / (wide * (kPanel / kLanes)) - 1;
  return rows < 1 ? 1 : rows < kTileM ? rows : kTileM;
}

}  // namespace

const KernelTable& table() noexcept {
  static constinit KernelTable t = {
      FP_NAME(FORWARDPASS_ISA),
      kPanel,
      {rows_for(1), rows_for(2), rows_for(3), rows_for(4), rows_for(5)},
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
