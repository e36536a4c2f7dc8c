// SPDX-License-Identifier: Apache-2.0
// How the threads of a job wait for each other.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>

#include "kernel.hpp"

namespace forwardpass {

// Nanoseconds of a clock that only goes forwards.
inline std::int64_t now() noexcept {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Returns when `value` is no longer `old`: spins for a while, then sleeps. The nanoseconds that this took; 1 where it
// took no longer than some looks.
std::int64_t wait_while(std::atomic<std::uint32_t>& value, std::uint32_t old) noexcept;

// A barrier for `members` threads. Reusable at once.
class Barrier {
 public:
  void reset(std::uint32_t members) noexcept {
    members_ = members;
    arrived_.store(0, std::memory_order_relaxed);
  }
  // As wait_while; 0 for the last one.
  std::int64_t wait() noexcept;

 private:
  std::uint32_t members_ = 1;
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> generation_{0};
};

// Threads that do a kernel together, turn by turn. One that has to wait twice for longer than it would take to do the
// others' parts, or once for very long, does all the rest alone: they share a processor with it or with another
// program.
class Convoy {
 public:
  void reset(int members) noexcept;
  // See Turns.
  bool next(Turns& mine, Range& own, const Range& all) noexcept;
  // Whether one went on alone.
  bool broken() const noexcept { return leader_.load(std::memory_order_relaxed) != kNobody; }

 private:
  static constexpr std::int64_t kMostMembers = 1 << 16;
  static constexpr std::int64_t kNobody = -1;

  std::int64_t members_ = 1;
  Barrier barrier_;
  // kMostMembers times the turn from which on one goes alone, plus which one.
  std::atomic<std::int64_t> leader_{kNobody};
};

}  // namespace forwardpass
