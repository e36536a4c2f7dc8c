// SPDX-License-Identifier: Apache-2.0
// Gather by indices that come from data.
#include "indices.hpp"

namespace forwardpass::FORWARDPASS_ISA {
void gather_any(const KernelArgs& args, Range range) noexcept {
  const GatherParams& p = params_of<GatherParams>(args);
  const char* data = input<char>(args, 0);
  char* out = output<char>(args);
  for (std::int64_t row = range.begin; row < range.end; ++row) {
    const std::int64_t outer = row / p.count, i = row % p.count;
    if (p.size == 0) return args.report(load_index(args.in[1], p.index_bytes, i));
    const std::int64_t index = checked(args, load_index(args.in[1], p.index_bytes, i), p.size);
    const char* from = data + (outer * p.size + index) * p.block;
    char* to = out + row * p.block;
    switch (p.block) {  // small blocks without a call
      case 4:
        __builtin_memcpy(to, from, 4);
        break;
      case 8:
        __builtin_memcpy(to, from, 8);
        break;
      default:
        __builtin_memcpy(to, from, static_cast<std::size_t>(p.block));
    }
  }
}

void gather_elements_any(const KernelArgs& args, Range range) noexcept {
  const GatherElementsParams& p = params_of<GatherElementsParams>(args);
  const Strided<2> s = strided<2>(p.rank, p.shape, {p.in_stride, p.out_stride});
  const std::int64_t si = s.row_stride(0), so = s.row_stride(1);
  if (p.size == 0) return args.report(0);
  with_size(p.itemsize, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* data = input<T>(args, 0);
    T* out = output<T>(args);
    for_each_row(s, range, [&](const std::int64_t* offset, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t at = offset[1] + i * so;  // indices are laid out like the output
        const std::int64_t index = checked(args, load_index(args.in[1], p.index_bytes, at), p.size);
        out[at] = data[offset[0] + i * si + index * p.axis_stride];
      }
    });
  });
}

void gather_nd_any(const KernelArgs& args, Range range) noexcept {
  const GatherNdParams& p = params_of<GatherNdParams>(args);
  const char* data = input<char>(args, 0);
  char* out = output<char>(args);
  const std::int64_t* indices = input<std::int64_t>(args, 1);
  for (std::int64_t row = range.begin; row < range.end; ++row) {
    std::int64_t from = row / p.count * p.batch;
    for (std::int64_t d = 0; d < p.depth; ++d) {
      if (p.shape[d] == 0) return args.report(indices[row * p.depth + d]);
      from += checked(args, indices[row * p.depth + d], p.shape[d]) * p.stride[d];
    }
    __builtin_memcpy(out + row * p.block, data + from, static_cast<std::size_t>(p.block));
  }
}

}  // namespace forwardpass::FORWARDPASS_ISA
