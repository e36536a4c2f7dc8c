// SPDX-License-Identifier: Apache-2.0
#include "arenas.hpp"

#include <algorithm>
#include <bit>
#include <memory>

namespace forwardpass {

namespace {

// Room for somewhat larger programs too: lengths that grow one by one shall not allocate each time.
std::size_t with_room(std::size_t bytes) {
  const std::size_t step = std::max<std::size_t>(std::bit_floor(bytes) / 8, Arena::kAlignment);
  return (bytes + step - 1) / step * step;
}

}  // namespace

Arenas::~Arenas() {
  for (auto& slot : pool_) delete slot.load();
}

void Arenas::enter(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto entered = needs_.insert(bytes);
  most_ = *needs_.rbegin();
  try {
    release(acquire(bytes));
  } catch (...) {
    needs_.erase(entered);
    most_ = needs_.empty() ? 0 : *needs_.rbegin();
    throw;
  }
}

void Arenas::leave(std::size_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = needs_.find(bytes);
  if (found != needs_.end()) needs_.erase(found);
  most_ = needs_.empty() ? 0 : *needs_.rbegin();
  for (auto& slot : pool_) {
    Arena* const arena = slot.exchange(nullptr, std::memory_order_acquire);
    if (arena == nullptr) continue;
    if (arena->size() / 2 <= most_) {
      release(arena);
      continue;
    }
    delete arena;
    try {
      if (most_ != 0) release(new Arena(most_));
    } catch (const std::bad_alloc&) {  // the next run tries again
    }
  }
}

Arena* Arenas::acquire(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  bool small = false;
  for (auto& slot : pool_) {
    if (slot.load(std::memory_order_relaxed) == nullptr) continue;
    Arena* const arena = slot.exchange(nullptr, std::memory_order_acquire);
    if (arena == nullptr) continue;
    if (arena->size() >= bytes) return arena;
    delete arena;
    small = true;
  }
  const std::size_t wanted = std::max(bytes, most_.load());
  return new Arena(small ? with_room(wanted) : wanted);
}

void Arenas::release(Arena* arena) noexcept {
  if (arena == nullptr) return;
  for (auto& slot : pool_) {
    Arena* empty = nullptr;
    if (slot.compare_exchange_strong(empty, arena, std::memory_order_release, std::memory_order_relaxed)) return;
  }
  delete arena;
}

}  // namespace forwardpass
