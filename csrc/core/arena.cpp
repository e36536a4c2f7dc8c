// SPDX-License-Identifier: Apache-2.0
#include "arena.hpp"

#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace forwardpass {

namespace {

constexpr std::size_t round_up(std::size_t bytes, std::size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

constexpr std::size_t kPage = 4096;

#if defined(__linux__)

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Has the system make all pages now, in one call where Linux has it (5.14): that takes half of the time of a fault for
// each of them.
void touch(std::byte* data, std::size_t bytes) {
  constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE
  if (madvise(data, bytes, kPopulateWrite) == 0) return;
  for (std::size_t at = 0; at < bytes; at += kPage) static_cast<volatile std::byte*>(data)[at] = std::byte{0};
}

// Pages of their own, that go back to the system when they are not needed: malloc would keep most of the blocks of a
// model that meets many shapes, each a little larger than the hole that the last one left.
std::byte* map_zeros(std::size_t bytes) {
  const std::size_t more = bytes >= kHugePage ? kHugePage : 0;  // so that it can start at a huge page
  const std::size_t all = bytes + more;
  if (all < bytes) throw std::bad_alloc();
  void* const raw = mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  std::byte* begin = static_cast<std::byte*>(raw);
  if (more != 0) {
    const std::size_t before = -reinterpret_cast<std::uintptr_t>(raw) % kHugePage;
    if (before != 0) munmap(begin, before);
    begin += before;
    munmap(begin + bytes, more - before);
    madvise(begin, bytes, MADV_HUGEPAGE);
  }
  touch(begin, bytes);
  return begin;
}

// Bytes that a block takes; 0 where malloc has it. What fills most of a huge page gets one: to make it takes half of
// the time of that many small ones.
std::size_t mapped_bytes(std::size_t bytes) {
  constexpr std::size_t kLeast = std::size_t{256} << 10, kMostOfHuge = kHugePage / 4 * 3;
  if (bytes < kLeast) return 0;
  return bytes >= kMostOfHuge && bytes <= kHugePage ? kHugePage : round_up(bytes, kPage);
}

void unmap(std::byte* data, std::size_t bytes) { munmap(data, bytes); }

void give_back(std::byte* data, std::size_t bytes) { madvise(data, bytes, MADV_DONTNEED); }

void map_pages(std::byte* data, std::size_t bytes) {
  constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ
  madvise(data, bytes, kPopulateRead);
}

#else

std::byte* map_zeros(std::size_t) { return nullptr; }
std::size_t mapped_bytes(std::size_t) { return 0; }
void unmap(std::byte*, std::size_t) {}
void give_back(std::byte*, std::size_t) {}
void map_pages(std::byte*, std::size_t) {}

#endif

}  // namespace

Arena::Arena(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  if (const std::size_t mapped = mapped_bytes(bytes); mapped != 0) {
    if (mapped < bytes) throw std::bad_alloc();
    data_ = map_zeros(mapped);
    return;
  }
  const std::size_t rounded = round_up(bytes, kAlignment);
  if (rounded < bytes) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(::operator new(rounded, std::align_val_t{kAlignment}));
  // Touches every page, so that a run never takes a page fault.
  std::memset(data_, 0, rounded);
}

Arena::~Arena() {
  if (data_ == nullptr) return;
  if (const std::size_t mapped = mapped_bytes(size_); mapped != 0) {
    unmap(data_, mapped);
  } else {
    ::operator delete(data_, std::align_val_t{kAlignment});
  }
}

void forget(void* data, std::size_t bytes) noexcept {
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(data) % kPage;
  if (bytes > before + kPage) give_back(static_cast<std::byte*>(data) + before, (bytes - before) / kPage * kPage);
}

void fetch(const void* data, std::size_t bytes) noexcept {
  const std::size_t before = reinterpret_cast<std::uintptr_t>(data) % kPage;
  map_pages(static_cast<std::byte*>(const_cast<void*>(data)) - before, bytes + before);
}

}  // namespace forwardpass
