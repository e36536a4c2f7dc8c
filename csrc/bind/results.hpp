// SPDX-License-Identifier: Apache-2.0
// Memory of large results. What a caller has let go of is kept for the next call, which would else wait for the system
// to make each of its pages again.
#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace forwardpass {

class ResultPool {
 public:
  // Bytes from which on a block is kept: malloc has smaller ones at hand.
  static constexpr std::size_t kLeast = std::size_t{64} << 10;

  // Uninitialised memory that starts at a cache line; null where there is none.
  void* get(std::size_t bytes) noexcept {
    const std::size_t size = rounded(bytes);
    if (size < bytes) return nullptr;
    if (size >= kLeast) {
      const std::lock_guard lock(mutex_);
      // The one that came last: it is the most likely to be in the caches still.
      const auto found = std::find_if(kept_.rbegin(), kept_.rend(), [=](const Block* b) { return b->size == size; });
      if (found != kept_.rend()) {
        Block* const block = *found;
        kept_.erase(std::next(found).base());
        kept_bytes_ -= size;
        return block + 1;
      }
    }
    return made(size);
  }

  void put(void* data) noexcept {
    if (data == nullptr) return;
    Block* const block = static_cast<Block*>(data) - 1;
    const std::lock_guard lock(mutex_);
    if (block->size < kLeast || block->size > limit_ || kept_.size() == kept_.capacity()) return std::free(block);
    shrink(limit_ - block->size);
    kept_.push_back(block);
    kept_bytes_ += block->size;
  }

  void* resize(void* data, std::size_t bytes) noexcept {
    void* const larger = get(bytes);
    if (larger == nullptr || data == nullptr) return larger;
    std::memcpy(larger, data, std::min(bytes, (static_cast<Block*>(data) - 1)->size));
    put(data);
    return larger;
  }

  // A call makes results of so many bytes. No more than that is kept; less only by and by, for models that are called
  // by turns.
  void expect(std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    limit_ = std::max(bytes + bytes / 8, limit_ - limit_ / 8);
    shrink(limit_);
  }

  // Who makes large results; after the last one nothing is kept.
  void join() {
    const std::lock_guard lock(mutex_);
    kept_.reserve(kMostBlocks);
    ++users_;
  }
  void leave() noexcept {
    const std::lock_guard lock(mutex_);
    if (--users_ > 0) return;
    limit_ = 0;
    shrink(0);
  }

  std::size_t kept_bytes() noexcept {
    const std::lock_guard lock(mutex_);
    return kept_bytes_;
  }

 private:
  // Before each block's memory.
  struct alignas(64) Block {
    std::size_t size;
  };

  static constexpr std::size_t kMostBlocks = 256;
  static constexpr std::size_t kHuge = std::size_t{4} << 20;  // from here on NumPy asks for huge pages too

  // Sizes are few, an eighth apart: a cache that grows by a row with each call finds what the last one has left.
  static std::size_t rounded(std::size_t bytes) noexcept {
    const std::size_t step = std::max(std::size_t{64}, std::bit_floor(bytes) / 8);
    return (bytes + step - 1) / step * step;
  }

  static void* made(std::size_t size) noexcept {
    const std::size_t all = size + sizeof(Block);
    auto* const block = all < size ? nullptr : static_cast<Block*>(std::aligned_alloc(alignof(Block), all));
    if (block == nullptr) return nullptr;
#if defined(__linux__)
    if (size >= kHuge) {
      constexpr std::size_t kPage = 4096;
      const std::size_t before = -reinterpret_cast<std::size_t>(block) % kPage;
      madvise(reinterpret_cast<std::byte*>(block) + before, all - before, MADV_HUGEPAGE);
    }
#endif
    block->size = size;
    return block + 1;
  }

  // Give the oldest blocks back until so many bytes are left.
  void shrink(std::size_t bytes) noexcept {
    auto end = kept_.begin();
    for (; kept_bytes_ > bytes; ++end) {
      kept_bytes_ -= (*end)->size;
      std::free(*end);
    }
    kept_.erase(kept_.begin(), end);
  }

  std::mutex mutex_;
  std::vector<Block*> kept_;  // the oldest first
  std::size_t kept_bytes_ = 0;
  std::size_t limit_ = 0;
  int users_ = 0;
};

}  // namespace forwardpass
