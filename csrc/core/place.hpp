// SPDX-License-Identifier: Apache-2.0
// Places of buffers in an arena.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace forwardpass {

struct Piece {
  std::int64_t bytes;
  std::int64_t first;  // and last step that touch it
  std::int64_t last;
  int part = -1;            // the only thread that touches it; -1 for pieces that threads share by halves
  std::int64_t offset = 0;  // from the arena's start; the answer
};

// Gives every piece an offset such that no two that are alive together overlap; returns the arena's bytes.
//
// Greedy by size: the largest first, each at the lowest gap that fits among those already placed whose lifetimes meet
// its own (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).
//
// A cache line that another core has written last takes it as long as dozens of additions. So where several threads
// work, pieces that follow each other in the same memory are cut between the threads at the same address, unless that
// takes much more memory.
std::size_t place(std::vector<Piece>& pieces, int threads);

}  // namespace forwardpass
