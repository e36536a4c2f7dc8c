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

#if defined(__linux__)
// Pages of their own, that go back to the system when they are not needed: malloc would keep most of the blocks of a
// model that meets many shapes, each a little larger than the hole that the last one left.
std::byte* map_huge(std::size_t bytes) {
  const std::size_t all = bytes + kHugePage;
  if (all < bytes) throw std::bad_alloc();
  void* const raw = mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  std::byte* const begin = static_cast<std::byte*>(raw);
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(raw) % kHugePage;
  if (before != 0) munmap(begin, before);
  if (before != kHugePage) munmap(begin + before + bytes, kHugePage - before);
  madvise(begin + before, bytes, MADV_HUGEPAGE);
  return begin + before;
}

void unmap_huge(std::byte* data, std::size_t bytes) { munmap(data, bytes); }
#else
std::byte* map_huge(std::size_t bytes) {
  return static_cast<std::byte*>(::operator new(bytes, std::align_val_t{kHugePage}));
}

void unmap_huge(std::byte* data, std::size_t) { ::operator delete(data, std::align_val_t{kHugePage}); }
#endif

constexpr std::size_t round_up(std::size_t bytes, std::size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace

Arena::Arena(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  const bool huge = bytes >= kHugePage;
  const std::size_t rounded = round_up(bytes, huge ? kHugePage : kAlignment);
  if (rounded < bytes) throw std::bad_alloc();
  data_ = huge ? map_huge(rounded) : static_cast<std::byte*>(::operator new(rounded, std::align_val_t{kAlignment}));
  // Touches every page, so that a run never takes a page fault.
  std::memset(data_, 0, rounded);
}

Arena::~Arena() {
  if (data_ == nullptr) return;
  if (size_ >= kHugePage) {
    unmap_huge(data_, round_up(size_, kHugePage));
  } else {
    ::operator delete(data_, std::align_val_t{kAlignment});
  }
}

}  // namespace forwardpass
