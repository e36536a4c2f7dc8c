// SPDX-License-Identifier: Apache-2.0
// The register tiles of brgemm.
#pragma once

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr int kPanel = 8;       // columns of a packed panel of B; a multiple of kLanes
inline constexpr int kTileM = 6;       // most rows of a tile
inline constexpr int kRegisters = 16;  // vector registers
// Weights of few rows of products are read by whole rows of panels: a Zen 3 fetches those well by itself, and takes 1.7
// times as long for one panel after another, fetched ahead.
inline constexpr bool kFarPanels = false;

}  // namespace forwardpass::FORWARDPASS_ISA
