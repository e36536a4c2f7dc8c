// SPDX-License-Identifier: Apache-2.0
// A view of values in memory, as a caller hands them over: address, element type, shape and strides.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "kernel.hpp"

namespace forwardpass {

inline constexpr int kMaxTensorRank = 64;  // NumPy's; what is left when dimensions are merged has to fit kMaxRank

namespace element_sizes {
using Half = std::uint16_t;
inline constexpr std::int64_t kOf[] = {
#define TYPE(name, T) sizeof(T),
#include "../kernels/types.def"
#undef TYPE
};
}  // namespace element_sizes

struct TensorView {
  void* data = nullptr;
  ElementType type = k_type_float32;
  int rank = 0;
  std::int64_t shape[kMaxTensorRank] = {};
  std::int64_t strides[kMaxTensorRank] = {};  // in elements

  // Dense values in C order. None where the rank is too large, a size negative, or the bytes more than 2^63 - 1.
  static std::optional<TensorView> dense(ElementType type, std::span<const std::int64_t> shape,
                                         void* data = nullptr) noexcept {
    if (shape.size() > kMaxTensorRank || std::ranges::any_of(shape, [](std::int64_t d) { return d < 0; })) return {};
    TensorView view;
    view.data = data;
    view.type = type;
    view.rank = static_cast<int>(shape.size());
    std::ranges::copy(shape, view.shape);
    if (!view.nbytes()) return {};
    std::int64_t stride = 1;
    for (int i = view.rank - 1; i >= 0; --i) {
      view.strides[i] = stride;
      // Without elements the strides say nothing, and a product that leaves the zeros out could overflow.
      if (view.size() != 0) stride *= view.shape[i];
    }
    return view;
  }

  std::int64_t itemsize() const noexcept { return element_sizes::kOf[type]; }

  // Elements, or none where they are more than 2^63 - 1. A size of 0 makes them 0, whatever the others are.
  std::optional<std::int64_t> size() const noexcept {
    const auto sizes = std::span(shape).first(static_cast<std::size_t>(rank));
    if (std::ranges::find(sizes, 0) != sizes.end()) return 0;
    std::int64_t product = 1;
    for (const std::int64_t d : sizes) {
      if (__builtin_mul_overflow(product, d, &product)) return {};
    }
    return product;
  }

  // Bytes of the elements, without the gaps between them; none as for `size`.
  std::optional<std::int64_t> nbytes() const noexcept {
    const std::optional<std::int64_t> elements = size();
    std::int64_t bytes = 0;
    if (!elements || __builtin_mul_overflow(*elements, itemsize(), &bytes)) return {};
    return bytes;
  }

  // Whether the elements lie in C order without gaps. Strides of dimensions of size 1 say nothing.
  bool contiguous() const noexcept {
    const std::optional<std::int64_t> elements = size();
    if (!elements || *elements == 0) return elements.has_value();
    std::int64_t expected = 1;
    for (int i = rank - 1; i >= 0; --i) {
      if (shape[i] != 1 && strides[i] != expected) return false;
      expected *= shape[i];
    }
    return true;
  }

  bool aligned() const noexcept {
    return reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(itemsize()) == 0;
  }

  // Whether both have the same element type and shape.
  bool like(const TensorView& other) const noexcept {
    return type == other.type && rank == other.rank && std::equal(shape, shape + rank, other.shape);
  }
};

}  // namespace forwardpass
