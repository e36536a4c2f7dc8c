// SPDX-License-Identifier: Apache-2.0
// Which register tiles of brgemm there are: the planner chooses among them, the kernel has one function for each.
#pragma once
#include "tuning.hpp"
#include "vec.hpp"

namespace forwardpass::FORWARDPASS_ISA {

// Most panels of a tile: more would not hide more latency, and need more streams of B than a prefetcher follows.
inline constexpr int kMaxPanels = 8;

// Most panels of a tile of `rows` rows that leave registers for a row of B and an element of A.
constexpr int panels_for(int rows) {
  const int most = (kRegisters - 1) / ((rows + 1) * (kPanel / kLanes));
  // A single row needs no register for B: its FMAs read memory.
  return rows == 1 || most > kMaxPanels ? kMaxPanels : most < 1 ? 1 : most;
}

}  // namespace forwardpass::FORWARDPASS_ISA
