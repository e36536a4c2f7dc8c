// SPDX-License-Identifier: Apache-2.0
// This ISA's KernelTable. A kernel that kernels.def names and no source defines is a link error.
#include "brgemm_shape.hpp"
#include "kernels.hpp"
#include "tiles.hpp"

#define FP_STRING(x) #x
#define FP_NAME(x) FP_STRING(x)

namespace forwardpass::FORWARDPASS_ISA {

extern const KernelTable& table() noexcept;

namespace {

constexpr TilePanels tile_panels() {
  static_assert(kTileM <= kMaxTileRows);
  TilePanels panels{};
  for (int rows = 1; rows <= kTileM; ++rows) panels.of[rows - 1] = panels_for(rows);
  return panels;
}

}  // namespace

const KernelTable& table() noexcept {
  static constinit KernelTable t = {
      FP_NAME(FORWARDPASS_ISA),
      kPanel,
      tile_panels(),
      kHasTiles,
      {
#define KERNEL(name, Params) &name,
#include "kernels.def"
#undef KERNEL
      },
      &crc32,
  };
  return t;
}

}  // namespace forwardpass::FORWARDPASS_ISA
