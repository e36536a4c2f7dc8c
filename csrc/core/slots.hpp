// SPDX-License-Identifier: Apache-2.0
// Objects that are used by one thread at a time: taken and put back without a lock.
#pragma once
#include <atomic>
#include <memory>

namespace forwardpass {

template <class T>
class Slots {
 public:
  static constexpr int kCount = 32;

  Slots() = default;
  ~Slots() {
    for (auto& slot : slots_) delete slot.load();
  }
  Slots(const Slots&) = delete;
  Slots& operator=(const Slots&) = delete;

  // Any of them, null where there is none.
  std::unique_ptr<T> take() noexcept {
    for (auto& slot : slots_) {
      if (slot.load(std::memory_order_relaxed) == nullptr) continue;
      if (T* const found = slot.exchange(nullptr, std::memory_order_acquire)) return std::unique_ptr<T>(found);
    }
    return nullptr;
  }

  // It is deleted where all slots are full.
  void put(std::unique_ptr<T> object) noexcept {
    for (auto& slot : slots_) {
      T* empty = nullptr;
      if (slot.compare_exchange_strong(empty, object.get(), std::memory_order_release, std::memory_order_relaxed)) {
        object.release();
        return;
      }
    }
  }

 private:
  std::atomic<T*> slots_[kCount] = {};
};

}  // namespace forwardpass
