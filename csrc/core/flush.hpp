// SPDX-License-Identifier: Apache-2.0
// Flushes denormals to zero on this thread for the life of the object, in the default rounding mode, and then
// restores the caller's floating-point state. Denormals cost a hundred cycles each and carry no information here.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace forwardpass {

class FlushDenormals {
 public:
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
#if defined(__x86_64__)
  FlushDenormals() noexcept : saved_(_mm_getcsr()) {
    // All exceptions masked, round to nearest even, flush to zero, denormals are zero.
    if (saved_ != kState) _mm_setcsr(kState);
  }
  ~FlushDenormals() {
    if (saved_ != kState) _mm_setcsr(saved_);
  }

 private:
  static constexpr unsigned kState = 0x9fc0;
  unsigned saved_;
#else
  FlushDenormals() noexcept {}
  ~FlushDenormals() {}
#endif
};

}  // namespace forwardpass
