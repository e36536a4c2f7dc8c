// SPDX-License-Identifier: Apache-2.0
// Arenas that several programs share: as many as ran at the same time, each large enough for the largest program.
#pragma once
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <set>

#include "arena.hpp"
#include "slots.hpp"

namespace forwardpass {

class Arenas {
 public:
  // For a program that needs so many bytes, before its first run and at its end. Takes a lock and allocates, so that
  // its runs do not. `enter` throws std::bad_alloc.
  void enter(std::size_t bytes);
  void leave(std::size_t bytes) noexcept;

  // An arena of at least so many bytes, null for none; it is allocated, which may throw std::bad_alloc, where all are
  // in use.
  std::unique_ptr<Arena> acquire(std::size_t bytes);
  void release(std::unique_ptr<Arena> arena) noexcept;

 private:
  void find_most() noexcept;

  std::mutex mutex_;
  std::multiset<std::size_t> needs_;
  std::atomic<std::size_t> most_ = 0;
  Slots<Arena> arenas_;
};

}  // namespace forwardpass
