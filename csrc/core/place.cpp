// SPDX-License-Identifier: Apache-2.0
#include "place.hpp"

#include <algorithm>

#include "arena.hpp"

namespace forwardpass {

namespace {

constexpr std::int64_t kLine = static_cast<std::int64_t>(Arena::kAlignment);

// Bytes that an arena may be larger for it: lines of a much larger one have left the core that wrote them.
constexpr std::int64_t kMore = 1 << 20;

std::int64_t whole_lines(const Piece& piece) { return (piece.bytes + kLine - 1) / kLine * kLine; }

bool meet(const Piece& one, const Piece& other) { return one.first <= other.last && other.first <= one.last; }

std::int64_t place_low(const std::vector<Piece*>& by_size) {
  std::vector<Piece*> placed;  // by offset
  std::int64_t total = 0;
  for (Piece* const piece : by_size) {
    const std::int64_t size = whole_lines(*piece);
    std::int64_t offset = 0;
    for (const Piece* const other : placed) {
      if (!meet(*piece, *other)) continue;
      if (other->offset - offset >= size) break;
      offset = std::max(offset, other->offset + whole_lines(*other));
    }
    piece->offset = offset;
    total = std::max(total, offset + size);
    const auto after = std::ranges::upper_bound(placed, offset, {}, [](const Piece* p) { return p->offset; });
    placed.insert(after, piece);
  }
  return total;
}

// Bytes of a piece below the centre that it is placed around: half of what threads share, and all or nothing of what
// one of them has, as its half lies there.
std::int64_t below(const Piece& piece, int threads) {
  const std::int64_t size = whole_lines(piece);
  if (piece.part < 0) return size / 2 / kLine * kLine;
  return 2 * piece.part < threads ? size : 0;
}

// Every piece around one of few centres, the first where no other one is in its way, and the centres as near to each
// other as pieces that are alive together allow.
std::int64_t place_around(const std::vector<Piece*>& by_size, int threads) {
  struct Around {
    Piece* piece;
    std::int64_t low, high;  // from the centre
  };
  std::vector<std::vector<Around>> centres;
  for (Piece* const piece : by_size) {
    const std::int64_t low = -below(*piece, threads), high = low + whole_lines(*piece);
    const auto is_free = [&](const std::vector<Around>& centre) {
      return std::ranges::none_of(centre, [&](const Around& other) {
        return meet(*piece, *other.piece) && low < other.high && other.low < high;
      });
    };
    auto found = std::ranges::find_if(centres, is_free);
    if (found == centres.end()) found = centres.insert(found, std::vector<Around>());
    found->push_back({piece, low, high});
  }
  std::vector<Around> placed;
  std::int64_t lowest = 0, highest = 0;
  for (const std::vector<Around>& centre : centres) {
    std::int64_t at = 0;
    for (const Around& own : centre) {
      for (const Around& other : placed) {
        if (meet(*own.piece, *other.piece)) at = std::max(at, other.high - own.low);
      }
    }
    for (const Around& own : centre) {
      own.piece->offset = at + own.low;
      placed.push_back({own.piece, at + own.low, at + own.high});
      lowest = std::min(lowest, at + own.low);
      highest = std::max(highest, at + own.high);
    }
  }
  for (Piece* const piece : by_size) piece->offset -= lowest;
  return highest - lowest;
}

}  // namespace

std::size_t place(std::vector<Piece>& pieces, int threads) {
  std::vector<Piece*> by_size;
  for (Piece& piece : pieces) by_size.push_back(&piece);
  std::ranges::stable_sort(by_size, std::ranges::greater{}, [](const Piece* p) { return whole_lines(*p); });
  if (threads > 1) {
    const std::int64_t around = place_around(by_size, threads);
    std::vector<std::int64_t> offsets;
    for (const Piece* const piece : by_size) offsets.push_back(piece->offset);
    const std::int64_t low = place_low(by_size);
    if (around > low + std::min(low / 2, kMore)) return static_cast<std::size_t>(low);
    for (std::size_t i = 0; i < offsets.size(); ++i) by_size[i]->offset = offsets[i];
    return static_cast<std::size_t>(around);
  }
  return static_cast<std::size_t>(place_low(by_size));
}

}  // namespace forwardpass
