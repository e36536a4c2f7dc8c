// SPDX-License-Identifier: Apache-2.0
// A block of 64-byte aligned memory, zeroed once, in huge pages where it is large and the kernel grants them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace forwardpass {

class Arena {
 public:
  static constexpr std::size_t kAlignment = 64;

  Arena() = default;
  explicit Arena(std::size_t bytes);  // throws std::bad_alloc
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Gives whole pages of memory back to the system, where it takes them. They are zero when they are used again, or as
// they were.
void forget(void* data, std::size_t bytes) noexcept;

// Has the system map the pages of a file that will be read soon, in one call where Linux has it (5.14).
void fetch(const void* data, std::size_t bytes) noexcept;

}  // namespace forwardpass
