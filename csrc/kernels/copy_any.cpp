// SPDX-License-Identifier: Apache-2.0
// Strided copies of elements of 1, 2 and 8 bytes, whatever they mean. Those of 4 are in copy.cpp.
#include "strided.hpp"

namespace forwardpass::FORWARDPASS_ISA {
namespace {

template <class T>
FP_INLINE void copy_any(const KernelArgs& args, Range range) {
  const CopyParams& p = params_of<CopyParams>(args);
  const T* in = static_cast<const T*>(args.in[0]);
  T* out = static_cast<T*>(args.out);
  const Strided<2> s = strided<2>(p.rank, p.shape, {p.in_stride, p.out_stride});
  const std::int64_t in_step = s.row_stride(0), out_step = s.row_stride(1);
  for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t count) {
    const T* from = in + offset[0];
    T* to = out + offset[1];
    if (in_step == 1 && out_step == 1) {
      __builtin_memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
    } else {
      for (std::int64_t i = 0; i < count; ++i) to[i * out_step] = from[i * in_step];
    }
  });
}

}  // namespace

void copy_x8(const KernelArgs& args, Range range) noexcept { copy_any<std::uint8_t>(args, range); }
void copy_x16(const KernelArgs& args, Range range) noexcept { copy_any<std::uint16_t>(args, range); }
void copy_x64(const KernelArgs& args, Range range) noexcept { copy_any<std::uint64_t>(args, range); }

}  // namespace forwardpass::FORWARDPASS_ISA
