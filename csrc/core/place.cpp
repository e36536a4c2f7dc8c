// SPDX-License-Identifier: Apache-2.0
#include "place.hpp"

#include <algorithm>

#include "arena.hpp"

namespace forwardpass {

namespace {

constexpr std::int64_t kLine = static_cast<std::int64_t>(Arena::kAlignment);

std::int64_t whole_lines(const Piece& piece) { return (piece.bytes + kLine - 1) / kLine * kLine; }

}  // namespace

std::size_t place(std::vector<Piece>& pieces) {
  std::vector<Piece*> by_size;
  for (Piece& piece : pieces) by_size.push_back(&piece);
  std::ranges::stable_sort(by_size, std::ranges::greater{}, [](const Piece* p) { return whole_lines(*p); });
  std::vector<Piece*> placed;  // by offset
  std::int64_t total = 0;
  for (Piece* const piece : by_size) {
    const std::int64_t size = whole_lines(*piece);
    std::int64_t offset = 0;
    for (const Piece* const other : placed) {
      if (other->last < piece->first || piece->last < other->first) continue;
      if (other->offset - offset >= size) break;
      offset = std::max(offset, other->offset + whole_lines(*other));
    }
    piece->offset = offset;
    total = std::max(total, offset + size);
    const auto after = std::ranges::upper_bound(placed, offset, {}, [](const Piece* p) { return p->offset; });
    placed.insert(after, piece);
  }
  return static_cast<std::size_t>(total);
}

}  // namespace forwardpass
