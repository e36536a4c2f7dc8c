// SPDX-License-Identifier: Apache-2.0
// What brgemm_split multiplies at once, and where its results go.
#pragma once
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

// One tile of positions. A position is a pixel of the output, or falls between two rows of it.
struct Rows {
  const std::uint32_t* a;
  const float* residual;  // of the first position's row of pixels, as are c and made; words where there is an r_block
  float* c;
  std::uint32_t* made;
  std::int64_t x;  // in that row
  int count;
  std::int64_t place = 0;  // of the tile, among those that meet all panels before the next ones do
};

// The part of a tile that is in one row of the output.
struct Pixels {
  int first;  // in the tile
  int count;
  float* c;
  const float* residual;
  std::uint32_t* made;
};

// The sums of up to four tiles, that go to C while the next ones multiply: those of the first positions with one panel
// or two, then those of the others.
struct Block {
  alignas(64) float sums[4][256];
  Rows rows[2];
  std::int64_t panel;
  int panels;
  int count = 0;
  int done = 0;
  bool first, last;  // of the chunks of K

  const Rows& rows_of(int tile) const { return rows[panels > 1 ? tile / 2 : tile]; }
  std::int64_t panel_of(int tile) const { return panel + (panels > 1 ? tile % 2 : 0); }
};

}  // namespace
}  // namespace forwardpass::FORWARDPASS_ISA
