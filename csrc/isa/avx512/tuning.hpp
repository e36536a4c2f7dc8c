// SPDX-License-Identifier: Apache-2.0
// The register tile of brgemm: at most kTileM rows of kPanel columns. kPanel is a multiple of kLanes.
// kRegisters is the number of vector registers.
#pragma once

namespace forwardpass::FORWARDPASS_ISA {

inline constexpr int kTileM = 14;
inline constexpr int kRegisters = 32;
inline constexpr int kPanel = 32;

}  // namespace forwardpass::FORWARDPASS_ISA
