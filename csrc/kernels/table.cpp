// SPDX-License-Identifier: Apache-2.0
// This ISA's KernelTable. A kernel that kernels.def names and no source defines is a link error.
#include "brgemm_shape.hpp"
#include "kernels.hpp"

#define FP_STRING(x) #x
#define FP_NAME(x) FP_STRING(x)

namespace forwardpass::FORWARDPASS_ISA {

extern const KernelTable& table() noexcept;

namespace {

struct TilePanels {
  std::int64_t of[kMaxTileRows];
};

constexpr TilePanels tile_panels() {
  static_assert(kTileM <= kMaxTileRows);
  TilePanels panels{};
  for (int rows = 1; rows <= kTileM; ++rows) panels.of[rows - 1] = panels_for(rows);
  return panels;
}

constexpr TilePanels kTilePanels = tile_panels();

}  // namespace

const KernelTable& table() noexcept {
  static constinit KernelTable t = {
      FP_NAME(FORWARDPASS_ISA),
      kPanel,
      {kTilePanels.of[0], kTilePanels.of[1], kTilePanels.of[2], kTilePanels.of[3], kTilePanels.of[4], kTilePanels.of[5],
       kTilePanels.of[6], kTilePanels.of[7], kTilePanels.of[8], kTilePanels.of[9], kTilePanels.of[10],
       kTilePanels.of[11], kTilePanels.of[12], kTilePanels.of[13], kTilePanels.of[14], kTilePanels.of[15]},
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
