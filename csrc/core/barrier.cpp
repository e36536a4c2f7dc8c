// SPDX-License-Identifier: Apache-2.0
#include "barrier.hpp"

#include <sched.h>

#include <algorithm>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace forwardpass {

namespace {

constexpr std::int64_t kPatience = 5'000;  // nanoseconds
constexpr std::int64_t kSpin = 50'000;
constexpr std::int64_t kLong = 500'000;  // more than a thread that slept needs until its first turn
constexpr std::int64_t kMostLate = 2;    // once may be an interrupt

inline void pause() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace

// After kPatience it offers its processor: on a busy machine the thread that it waits for may be queued behind it.
std::int64_t wait_while(std::atomic<std::uint32_t>& value, std::uint32_t old) noexcept {
  const std::int64_t start = now();
  std::int64_t waited = 1;
  do {
    for (int i = 0; i < 64; ++i) {
      if (value.load(std::memory_order_acquire) != old) return waited;
      pause();
    }
    waited = now() - start;
    if (waited > kPatience) sched_yield();
  } while (waited < kSpin);
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
  return now() - start;
}

std::int64_t Barrier::wait() noexcept {
  const std::uint32_t generation = generation_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < members_) return wait_while(generation_, generation);
  arrived_.store(0, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  return 0;
}

void Convoy::reset(int members) noexcept {
  members_ = members;
  barrier_.reset(static_cast<std::uint32_t>(members));
  leader_.store(kNobody, std::memory_order_relaxed);
}

bool Convoy::next(Turns& mine, Range& own, const Range& all) noexcept {
  if (members_ == 1 || mine.alone) return true;
  const std::int64_t waited = barrier_.wait();
  // Named before its turn by one who then came to this wait, so that all see it here; for a later turn by one who has
  // gone on already, and then all see it there.
  const std::int64_t leader = leader_.load(std::memory_order_relaxed);
  if (leader != kNobody && leader / kMostMembers <= mine.turn) {
    if (leader % kMostMembers != mine.member) return false;
    mine.alone = true;
    own = all;
    return true;
  }
  const bool late = waited > (mine.turn == 0 ? kLong : std::max(kPatience, mine.most));
  if (late) mine.late += waited > kLong ? kMostLate : 1;
  if (!late && waited != 0) mine.late = 0;  // the last one learns nothing of the others
  ++mine.turn;
  if (mine.late >= kMostLate) {
    std::int64_t nobody = kNobody;
    leader_.compare_exchange_strong(nobody, mine.turn * kMostMembers + mine.member, std::memory_order_relaxed);
  }
  return true;
}

bool next_turn(Convoy& convoy, Turns& mine, Range& own, const Range& all) noexcept {
  return convoy.next(mine, own, all);
}

}  // namespace forwardpass
