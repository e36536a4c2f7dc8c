// SPDX-License-Identifier: Apache-2.0
#include "arenas.hpp"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

namespace forwardpass {

namespace {

// Room for somewhat larger programs too: lengths that grow one by one shall not allocate each time.
std::size_t with_room(std::size_t bytes) {
  const std::size_t step = std::max<std::size_t>(std::bit_floor(bytes) / 8, Arena::kAlignment);
  return (bytes + step - 1) / step * step;
}

}  // namespace

void Arenas::find_most() noexcept { most_ = needs_.empty() ? 0 : *needs_.rbegin(); }

void Arenas::enter(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto entered = needs_.insert(bytes);
  find_most();
  try {
    release(acquire(bytes));
  } catch (...) {
    needs_.erase(entered);
    find_most();
    throw;
  }
}

void Arenas::leave(std::size_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = needs_.find(bytes);
  if (found != needs_.end()) needs_.erase(found);
  find_most();
  std::unique_ptr<Arena> taken[Slots<Arena>::kCount];
  for (auto& arena : taken) arena = arenas_.take();
  for (auto& arena : taken) {
    if (!arena) continue;
    if (arena->size() / 2 > most_) {
      arena.reset();
      try {
        if (most_ != 0) arena = std::make_unique<Arena>(most_);
      } catch (const std::bad_alloc&) {  // the next run tries again
      }
    }
    release(std::move(arena));
  }
}

std::unique_ptr<Arena> Arenas::acquire(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  bool small = false;
  while (auto arena = arenas_.take()) {
    if (arena->size() >= bytes) return arena;
    small = true;
  }
  const std::size_t wanted = std::max(bytes, most_.load());
  return std::make_unique<Arena>(small ? with_room(wanted) : wanted);
}

void Arenas::release(std::unique_ptr<Arena> arena) noexcept {
  if (arena) arenas_.put(std::move(arena));
}

}  // namespace forwardpass
