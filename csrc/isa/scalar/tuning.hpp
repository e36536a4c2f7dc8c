// SPDX-License-Identifier: Apache-2.0
// The register tiles of brgemm.
#pragma once

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr int kPanel = 4;       // columns of a packed panel of B; a multiple of kLanes
inline constexpr int kTileM = 2;       // most rows of a tile
inline constexpr int kRegisters = 16;  // vector registers
// Weights that come from behind L2 are left to the hardware.
inline constexpr bool kFetchesAhead = false;

}  // namespace forwardpass::FORWARDPASS_ISA
