// SPDX-License-Identifier: Apache-2.0
// The register tiles of brgemm.
#pragma once

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr int kPanel = 16;      // columns of a packed panel of B; a multiple of kLanes
inline constexpr int kTileM = 14;      // most rows of a tile
inline constexpr int kRegisters = 32;  // vector registers

}  // namespace forwardpass::FORWARDPASS_ISA
