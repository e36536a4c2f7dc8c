// SPDX-License-Identifier: Apache-2.0
// Arenas that several programs share: as many as ran at the same time, each large enough for the largest program.
#pragma once
#include <atomic>
#include <cstddef>
#include <mutex>
#include <set>

#include "arena.hpp"

namespace forwardpass {

class Arenas {
 public:
  Arenas() = default;
  ~Arenas();
  Arenas(const Arenas&) = delete;
  Arenas& operator=(const Arenas&) = delete;

  // For a program that needs so many bytes, before its first run and at its end. Takes a lock and allocates, so that
  // its runs do not. `enter` throws std::bad_alloc.
  void enter(std::size_t bytes);
  void leave(std::size_t bytes) noexcept;

  // An arena of at least so many bytes; it is allocated, which may throw std::bad_alloc, where all are in use.
  Arena* acquire(std::size_t bytes);
  void release(Arena* arena) noexcept;

 private:
  static constexpr int kPooled = 32;

  std::mutex mutex_;
  std::multiset<std::size_t> needs_;
  std::atomic<std::size_t> most_ = 0;
  std::atomic<Arena*> pool_[kPooled] = {};
};

}  // namespace forwardpass
