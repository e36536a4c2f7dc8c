// SPDX-License-Identifier: Apache-2.0
#include "arena.hpp"

#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace forwardpass {

namespace {
constexpr std::size_t kHugePage = std::size_t{2} << 20;
}

Arena::Arena(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  if (rounded < bytes) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(::operator new(rounded, std::align_val_t{alignment}));
#if defined(__linux__)
  if (alignment == kHugePage) madvise(data_, rounded, MADV_HUGEPAGE);
#endif
  // Touches every page, so that a run never takes a page fault.
  std::memset(data_, 0, rounded);
}

Arena::~Arena() {
  if (data_ == nullptr) return;
  ::operator delete(data_, std::align_val_t{size_ >= kHugePage ? kHugePage : kAlignment});
}

}  // namespace forwardpass
