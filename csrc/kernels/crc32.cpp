// SPDX-License-Identifier: Apache-2.0
// The CRC-32 of zip files, which is that of IEEE 802.3. Its bits are reflected: the highest power stands in the lowest
// bit.
#include "carryless.hpp"
#include "kernels.hpp"

namespace forwardpass::FORWARDPASS_ISA {

namespace {

constexpr std::uint32_t times_x(std::uint32_t crc) { return crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320u : 0); }

// of[k][b]: what a byte b does to the CRC of the k bytes after it. Eight tables take eight bytes per step ("slicing by
// 8": Kounavis and Berry, 2005); who folds needs one, for what is left.
template <int kCount>
struct Tables {
  std::uint32_t of[kCount][256] = {};
  constexpr Tables() {
    for (std::uint32_t b = 0; b < 256; ++b) {
      of[0][b] = b;
      for (int bit = 0; bit < 8; ++bit) of[0][b] = times_x(of[0][b]);
    }
    for (int k = 1; k < kCount; ++k) {
      for (int b = 0; b < 256; ++b) of[k][b] = of[k - 1][b] >> 8 ^ of[0][of[k - 1][b] & 255];
    }
  }
};

constexpr int kSlices = kHasCarryless ? 1 : 8;
constexpr Tables<kSlices> kTables;

FP_INLINE std::uint32_t by_slices(const unsigned char* p, std::int64_t n, std::uint32_t crc) {
  for (; n >= kSlices; p += kSlices, n -= kSlices) {
    std::uint32_t next = kSlices < 4 ? crc >> 8 * kSlices % 32 : 0;
#pragma GCC unroll 8
    for (int k = 0; k < kSlices; ++k) {
      const std::uint32_t byte = k < 4 ? p[k] ^ (crc >> 8 * k & 255) : p[k];
      next ^= kTables.of[kSlices - 1 - k][byte];
    }
    crc = next;
  }
  for (; n > 0; --n) crc = crc >> 8 ^ kTables.of[0][(crc ^ *p++) & 255];
  return crc;
}

// x^power modulo the polynomial as a factor: a product of reflected polynomials stands one bit lower than its factors.
constexpr std::uint64_t factor(int power) {
  std::uint32_t r = 0x80000000u;
  for (int i = 0; i < power; ++i) r = times_x(r);
  return static_cast<std::uint64_t>(r) << 1;
}

// 16 bytes moved over kBits bits, onto what stands there ("Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
// Instruction": Gopal and others, Intel, 2009).
template <int kBits>
FP_INLINE Bits128 fold(Bits128 a, Bits128 onto) {
  const Bits128 by = bits128(factor(kBits + 32), factor(kBits - 32));
  return multiply_low(a, by) ^ multiply_high(a, by) ^ onto;
}

// Bytes from what is read to what is fetched: processors do not look behind the page on their own.
constexpr std::int64_t kAhead = 4096;

// Blocks of 16 bytes in four chains, which hide the latency of the products; then in one.
FP_INLINE std::uint32_t by_folds(const unsigned char* p, std::int64_t n, std::uint32_t crc) {
  Bits128 a = load_bits(p) ^ bits128(crc, 0);
  p += 16;
  n -= 16;
  if (n >= 112) {
    Bits128 b = load_bits(p), c = load_bits(p + 16), d = load_bits(p + 32);
    for (p += 48, n -= 48; n >= 64; p += 64, n -= 64) {
      __builtin_prefetch(p + kAhead);
      a = fold<512>(a, load_bits(p));
      b = fold<512>(b, load_bits(p + 16));
      c = fold<512>(c, load_bits(p + 32));
      d = fold<512>(d, load_bits(p + 48));
    }
    a = fold<128>(fold<128>(fold<128>(a, b), c), d);
  }
  for (; n >= 16; p += 16, n -= 16) a = fold<128>(a, load_bits(p));
  unsigned char rest[16];
  store_bits(rest, a);
  return by_slices(p, n, by_slices(rest, 16, 0));
}

}  // namespace

std::uint32_t crc32(const void* data, std::int64_t size, std::uint32_t crc) noexcept {
  const unsigned char* const p = static_cast<const unsigned char*>(data);
  return ~(kHasCarryless && size >= 16 ? by_folds(p, size, ~crc) : by_slices(p, size, ~crc));
}

}  // namespace forwardpass::FORWARDPASS_ISA
